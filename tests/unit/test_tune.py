"""Tuning: what is tried, how far faces may lie from those of fp32, and which is chosen."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from polyface.errors import ConfigError, UnknownNameError
from polyface.measure.bench import make_contenders, make_rows
from polyface.measure.rounds import Measurement, Samples
from polyface.measure.tune import choose, list_configs
from polyface.plugins.records import BackendSpec, Capability, Ref
from polyface.results import Detections
from polyface.settings.config import Config

ONE = Samples(size=(48, 64), batch=1)


class Plugins:
    """Two backends: ``wide`` has a CPU and a GPU, ``half`` has a GPU in fp16 alone, and is preferred."""

    def __init__(self):
        wide = (
            Capability(device="cuda", precisions=("fp16", "fp32")),
            Capability(device="cpu", precisions=("bf16", "fp32")),
        )
        half = (Capability(device="cuda", precisions=("fp16",)),)
        self.specs = {
            name: BackendSpec(
                name=name,
                summary="A toy",
                accepts=("numpy",),
                capabilities=claims,
                factory=Ref("toy:Backend"),
                preference=preference,
            )
            for name, claims, preference in (("wide", wide, 0), ("half", half, 5))
        }

    def by_name(self, _):
        return self.specs

    def get(self, _, name):
        if name not in self.specs:
            raise UnknownNameError(name)
        return self.specs[name]


class TestWhatIsTried:
    @pytest.mark.parametrize(
        ("device", "tried"),
        [
            ("auto", ["half:fp16", "wide:fp32", "wide:fp16", "wide:bf16"]),
            ("cpu", ["half:fp32", "wide:fp32", "wide:bf16"]),  # what lacks the device has a row that says so
            ("cuda:1", ["half:fp16", "wide:fp32", "wide:fp16"]),
        ],
    )
    def test_every_backend_in_every_precision_it_claims_on_the_device_fp32_first(self, device, tried):
        assert [*list_configs(Config(device=device), Plugins())] == tried

    def test_fp32_is_tried_beside_the_precisions_asked_for(self):
        assert [*list_configs(Config(device="cpu"), Plugins(), backends=["wide"], precisions=["int8"])] == [
            "wide:fp32",
            "wide:int8",
        ]

    def test_counts_of_threads_are_tried_side_by_side(self):
        found = list_configs(Config(threads=7, device="cpu"), Plugins(), backends=["wide"], threads=[1, 2])
        assert [*found][:2] == ["wide:fp32, threads 1", "wide:fp32, threads 2"]
        assert [config.threads for config in found.values()] == [1, 2, 1, 2]
        assert [config.threads for config in list_configs(Config(threads=7), Plugins()).values()] == [7] * 4

    def test_backend_options_go_to_their_backend_alone(self):
        found = list_configs(Config(backend="half", backend_options={"graphs": 2}), Plugins())
        assert [dict(config.backend_options) for config in found.values()] == [{"graphs": 2}, {}, {}, {}]

    def test_what_is_unknown_is_refused(self):
        with pytest.raises(UnknownNameError):
            list_configs(Config(), Plugins(), backends=["narrow"])
        with pytest.raises(ConfigError, match="There is no tolerance for the precision 'fp3'"):
            list_configs(Config(), Plugins(), precisions=["fp3"])


def face(left=10.0, score=0.9):
    """One face, 20 pixels wide and high."""
    return Detections(boxes=[[left, 10.0, left + 20, 30.0]], scores=[score])


NOBODY = Detections(boxes=np.zeros((0, 4)), scores=[])


def rows(samples=ONE, **given):
    """Rows by label, such as ``wide_bf16``: the seconds of each round, and the faces; without seconds, it fails."""
    configs = {}
    for label in given:
        backend, precision, *_ = label.split("_")
        configs[label] = Config(backend=backend, precision=precision)
    made = make_contenders(configs, [samples])
    measured = [
        Measurement(
            contender=one,
            seconds=tuple(seconds),
            results=tuple([found] for found in faces),
            facts={"score_threshold": 0.5, "iou_threshold": 0.4},
            why="" if seconds else "no such thing",
        )
        for (_, one), (seconds, *faces) in zip(made, given.values(), strict=True)
    ]
    return make_rows([config for config, _ in made], measured)


class TestChoice:
    def test_it_is_the_fastest_whose_faces_are_those_of_fp32(self):
        found = choose(
            rows(
                one_fp32=([4.0] * 4, face()),
                two_fp32=([2.0] * 4, face(10.05, 0.9005)),  # within 0.1 pixels and 0.001
                two_bf16=([1.0] * 4, face(10.05, 0.902)),
                one_int8=([1.5] * 4, face(10.2, 0.9)),
            )
        )
        assert found.reference.label == "one_fp32"
        assert found.chosen.label == "two_fp32"
        settings = {"detector": "retinaface-mobilenet025", "backend": "two", "precision": "fp32"}
        assert found.chosen.settings == settings
        assert [trial.over for trial in found.trials] == [[], [], ["score"], ["pixels"]]
        assert (found.fastest.label, found.passed_over.label) == ("two_bf16", "two_bf16")

    def test_a_face_of_one_side_alone_is_too_far(self):
        found = choose(rows(one_fp32=([4.0], face()), one_fp16=([1.0], NOBODY)))
        assert found.trials[1].over == ["unmatched"]
        assert found.chosen.label == "one_fp32"

    def test_a_precision_that_is_asked_for_may_cost_what_its_tolerances_allow(self):
        given = rows(
            one_fp32=([1.0] * 4, face()),
            one_bf16=([3.0] * 4, face(12.0, 0.86)),  # within 3 pixels and 0.05
            one_fp16=([2.0] * 4, face(10.6)),  # not within 0.5 pixels
        )
        assert choose(given, asked=["bf16", "fp16"]).chosen.label == "one_bf16"
        assert choose(given, asked=["bf16", "fp16"]).passed_over.label == "one_fp32"
        assert choose(given, asked=["fp16"]).chosen is None
        assert choose(given).chosen.label == "one_fp32"

    def test_without_a_face_only_fp32_is_chosen(self):
        given = rows(one_fp32=([4.0], NOBODY), one_int8=([1.0], NOBODY))
        assert choose(given).chosen.label == "one_fp32"
        assert choose(given, asked=["int8"]).chosen is None

    def test_a_face_that_rounding_loses_at_the_threshold_is_lost_where_none_may_be(self):
        both = Detections.concatenate([face(), face(100.0, 0.5005)])  # the threshold is 0.5
        given = rows(one_fp32=([4.0], both), one_bf16=([1.0], face()))
        assert choose(given).chosen.label == "one_fp32"
        assert choose(given, asked=["bf16"]).chosen.label == "one_bf16"

    def test_a_precision_that_finds_no_face_that_fp32_finds_is_never_chosen(self):
        given = rows(one_fp32=([4.0], face(score=0.51)), one_int8=([1.0], NOBODY))  # within 0.1 of the threshold
        assert choose(given, asked=["int8"]).chosen is None

    def test_what_the_environment_gives_is_not_written(self):
        [row] = rows(one_fp32=([1.0], face()))
        given = {"device": "environment POLYFACE_DEVICE", "threads": "option"}
        config = attrs.evolve(row.config, device="cpu", threads=2, sources=given)
        [trial] = choose([attrs.evolve(row, config=config)]).trials
        assert {*trial.settings} == {"detector", "backend", "precision", "threads"}

    def test_where_fp32_cannot_be_had_nothing_is_proven(self):
        found = choose(rows(one_fp32=([],), one_fp16=([1.0], face())), asked=["fp16"])
        assert (found.reference, found.chosen) == (None, None)
        assert found.trials[1].faces is None
        assert [trial.label for trial in found.measured] == ["one_fp16"]

    def test_where_nothing_was_measured_nothing_is_chosen(self):
        found = choose(rows(one_fp32=([],)))
        assert (found.fastest, found.passed_over, found.chosen) == (None, None, None)

    def test_each_precision_is_held_against_fp32_of_its_own_backend(self):
        found = choose(
            rows(
                one_fp32=([1.0] * 4, face()),
                two_fp32=([4.0] * 4, face()),
                two_fp16=([5.0] * 3 + [1.0], face()),
            )
        )
        assert [trial.row.fp32_ratio for trial in found.trials] == [None, None, 0.8]
        assert [trial.row.slower_than_fp32 for trial in found.trials] == [False, False, True]

    def test_each_image_is_compared_once_however_many_rounds_there_are(self, tmp_path):
        samples = attrs.evolve(ONE, paths=(tmp_path / "a.png", tmp_path / "b.png"))
        faces = [face(), NOBODY, face()]
        found = choose(rows(samples, one_fp32=([1.0] * 3, *faces), two_fp32=([1.0] * 3, *faces)))
        assert found.trials[1].faces.expected == 1
        assert choose(rows(one_fp32=([1.0] * 3, *[face()] * 3))).trials[0].faces.expected == 1

    def test_an_image_takes_the_mean_over_the_images_of_the_median_of_its_rounds(self, tmp_path):
        paths = (tmp_path / "small.png", tmp_path / "large.png")
        seconds = [1.0, 8.0, 2.0, 8.0, 9.0]  # of the small one 1, 2 and 9, of the large one 8
        [trial] = choose(rows(attrs.evolve(ONE, paths=paths), one_fp32=(seconds, *[face()] * 5))).trials
        assert trial.seconds == (2 + 8) / 2
        twos = attrs.evolve(ONE, paths=paths, batch=2)  # the same two images in each call
        assert choose(rows(twos, one_fp32=([1.0, 3.0, 9.0],))).trials[0].seconds == 1.5
        assert choose(rows(one_fp32=([1.0, 3.0, 9.0], *[face()] * 3))).trials[0].seconds == 3

    def test_it_says_how_it_chose_and_what_it_gives(self):
        found = choose(rows(one_fp32=([0.25], face())), asked=[]).to_dict()
        assert found["rule"] == (
            "the fastest whose faces are those of fp32: none lost or added, edges and landmarks within 0.1 pixels, "
            "scores within 0.001"
        )
        settings = {"detector": "retinaface-mobilenet025", "backend": "one", "precision": "fp32"}
        assert found["chosen"] == {"label": "one_fp32", "settings": settings}
        [trial] = found["trials"]
        assert (trial["median"], trial["faces"]["matched"], trial["over"]) == (0.25, 1, [])
