"""Plans for machines one does not have: which graph reaches which backend, and why not."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import attrs
import pytest

from polyface.errors import NO_FIX, BackendUnavailableError, ContractError, Fix, Reason, UnsupportedError
from polyface.graphs.plan import Planner, Route, refusal, refusals, select_device
from polyface.graphs.weights import Weights
from polyface.machine.drivers import has_driver, is_installed
from polyface.plugins.manager import missing
from polyface.plugins.protocols import DeviceReport
from polyface.plugins.records import Capability, ConverterSpec, FileRef, GraphSource, Ref, Requirement
from polyface.settings.config import Config

NOTHING_STORED = Reason(subject="onnx artifact", why="none is stored")
STORED = Path("/artifacts/toy.onnx")
ELSEWHERE = (
    "pip install 'polyface-torch[export]'; or: make it on a machine that has that, by "
    "`polyface export toy --to onnx --weights /b.pth --output DIR`, and name DIR here as artifacts"
)
OTHER = Weights(detector="toy", own=Path("/b.pth"), sha256="ab" * 32)


@pytest.fixture
def detector(detector_spec, weights_file):
    """Published as a torch module, and as a packaged ONNX graph that holds the weights 'wider'."""
    packaged = GraphSource(kind="onnx", ref=FileRef("toy_faces:toy.onnx"), weights="wider", sha256="ab" * 32)
    return attrs.evolve(detector_spec, weights=[weights_file], graphs=[*detector_spec.graphs, packaged])


@pytest.fixture
def wider(weights_file):
    return Weights(detector="toy", file=weights_file, sha256=weights_file.sha256, is_default=True)


@pytest.fixture
def planner(detector, converter_spec, wider):
    """A planner with everything at hand, but for what a test takes away."""

    def planner(*, without=(), stored=NOTHING_STORED, **changes):
        known = {"detector": detector, "weights": wider, "converters": [converter_spec], **changes}
        return Planner(**known, installed=lambda module: module not in without, stored=lambda _: stored)

    return planner


@pytest.fixture
def attempt(planner, backend_spec):
    """Plan a route, by default to any device."""

    def attempt(*, backend=backend_spec, device="auto", precision="fp32", **changes):
        return planner(**changes).route(backend, device, precision)

    return attempt


def reasons_of(attempt, **changes):
    with pytest.raises(UnsupportedError) as caught:
        attempt(**changes)
    assert caught.value.what == "'toy' cannot run on the backend 'fast'."
    return list(caught.value.reasons)


class TestOrder:
    @pytest.mark.parametrize("weights", ["the packaged graph's", "others"])
    def test_what_the_user_stored_comes_first(self, attempt, wider, weights):
        route = attempt(weights=OTHER if weights == "others" else wider, stored=STORED)
        assert (route.kind, route.source, route.artifact, route.converter) == ("onnx", None, STORED, None)
        assert route.description == "onnx, from the artifact folder"
        assert not route.needs_weights

    def test_then_the_detectors_own_graph(self, attempt, detector):
        route = attempt()
        assert (route.kind, route.source, route.artifact, route.converter) == ("onnx", detector.graphs[1], None, None)
        assert route.description == "onnx, packaged"
        assert not route.needs_weights

    def test_then_a_conversion(self, attempt, detector, converter_spec):
        route = attempt(weights=OTHER)
        assert (route.source, route.artifact, route.converter) == (detector.graphs[0], None, converter_spec)
        assert route.description == "torch-module, converted to onnx"
        assert route.needs_weights

    def test_a_stored_artifact_needs_neither_torch_nor_a_converter(self, attempt):
        route = attempt(weights=OTHER, stored=STORED, converters=[], without={"torch", "exporter"})
        assert route.artifact == STORED

    def test_a_graph_that_is_built_here_needs_its_weights(self, attempt, backend_spec, detector):
        route = attempt(backend=attrs.evolve(backend_spec, accepts=["torch-module"]))
        assert (route.source, route.needs_weights, route.description) == (detector.graphs[0], True, "torch-module")

    def test_a_kind_the_backend_prefers_is_tried_by_every_way_before_the_next(self, attempt, backend_spec):
        both = attrs.evolve(backend_spec, accepts=["torch-module", "onnx"])
        assert attempt(backend=both).kind == "torch-module"
        assert attempt(backend=both, without={"torch"}).description == "onnx, packaged"

    def test_converters_are_tried_in_their_order(self, attempt, converter_spec):
        second = attrs.evolve(converter_spec, requires=[Requirement(module="exporter2", install="exporter2")])
        pair = [converter_spec, second]
        assert attempt(weights=OTHER, converters=pair).converter is converter_spec
        assert attempt(weights=OTHER, converters=pair, without={"exporter"}).converter is second

    def test_a_converter_between_other_kinds_is_no_way(self, attempt, converter_spec):
        other = attrs.evolve(converter_spec, target="engine")
        assert attempt(weights=OTHER, converters=[other, converter_spec]).converter is converter_spec


class TestReasons:
    def test_a_device_the_backend_does_not_claim(self, attempt):
        assert reasons_of(attempt, device="gpu:1") == [
            Reason(
                subject="backend 'fast'",
                why="has no device 'gpu:1' (it has cpu, cuda)",
                fix=Fix(settings={"device": "auto"}),
            )
        ]
        assert reasons_of(attempt, device="CUDA")[0].fix == Fix(settings={"device": "cuda"})

    def test_a_device_with_a_slip_names_the_nearest(self, attempt):
        [reason] = reasons_of(attempt, device="cud")
        assert reason.why == "has no device 'cud' (it has cpu, cuda); did you mean 'cuda' or 'cpu'?"

    def test_a_precision_the_device_does_not_claim(self, attempt):
        assert reasons_of(attempt, device="cpu", precision="fp16") == [
            Reason(
                subject="backend 'fast'",
                why="does not run in 'fp16' on device 'cpu' (it has fp32)",
                fix=Fix(settings={"precision": "fp32"}),
            )
        ]

    def test_auto_may_take_any_device_for_a_precision_but_not_one_that_none_has(self, attempt):
        assert attempt(device="auto", precision="fp16").kind == "onnx"
        assert attempt(device="cuda:3", precision="fp16").kind == "onnx"
        [reason] = reasons_of(attempt, device="auto", precision="fp17")
        assert reason.why == ("does not run in 'fp17' on device 'auto' (it has fp32, fp16); did you mean 'fp16'?")

    def test_of_the_precisions_one_with_an_open_route_is_named(self, attempt, backend_spec):
        claims = [
            Capability(device="cpu", precisions=("fp16",), accepts=("engine",)),
            Capability(device="cpu", precisions=("fp32",)),
        ]
        [reason] = reasons_of(attempt, precision="int4", backend=attrs.evolve(backend_spec, capabilities=claims))
        assert reason.why == "does not run in 'int4' on device 'auto' (it has fp16, fp32)"
        assert reason.fix == Fix(settings={"precision": "fp32"})

    def test_no_precision_is_named_that_would_be_refused_as_well(self, attempt, backend_spec):
        half = attrs.evolve(
            backend_spec, accepts=["engine"], capabilities=[Capability(device="cpu", precisions=("fp16",))]
        )
        reasons = reasons_of(attempt, precision="fp32", backend=half)
        assert [(reason.why, reason.fix) for reason in reasons] == [
            ("does not run in 'fp32' on device 'auto' (it has fp16)", Fix()),
            ("none is stored", Fix()),
            ("none that is installed makes engine from torch-module, onnx", Fix()),
        ]

    def test_a_precision_with_something_to_install_first_is_named_with_it(self, attempt):
        reasons = reasons_of(attempt, device="cpu", precision="fp16", without={"fast_runtime"})
        assert [str(reason.fix) for reason in reasons] == ['precision="fp32"', "pip install fast-runtime"]

    def test_a_runtime_that_is_not_installed(self, attempt):
        assert reasons_of(attempt, without={"fast_runtime"}) == [
            Reason(
                subject="backend 'fast'",
                why="fast_runtime is not installed",
                fix=Fix(command="pip install fast-runtime"),
            )
        ]

    def test_a_wrong_device_and_a_missing_runtime_are_both_told(self, attempt):
        assert len(reasons_of(attempt, device="tpu", without={"fast_runtime"})) == 2

    def test_one_command_brings_the_runtime_and_what_the_conversion_to_it_takes(self, attempt):
        reasons = reasons_of(attempt, weights=OTHER, without={"fast_runtime", "exporter"})
        assert [(reason.why, str(reason.fix)) for reason in reasons if "not installed" in reason.why] == [
            ("fast_runtime is not installed", ""),  # by itself it would lead to the next message
            ("exporter is not installed", "pip install fast-runtime 'exporter>=2'"),
        ]

    def test_a_runtime_is_not_to_be_installed_where_there_is_no_route_to_it(self, attempt, backend_spec):
        with pytest.raises(UnsupportedError) as caught:
            attempt(backend=attrs.evolve(backend_spec, accepts=["engine"]), without={"fast_runtime"})
        assert str(caught.value.fix) == "choose another pair: polyface matrix"
        assert caught.value.why[0] == "backend 'fast': fast_runtime is not installed"

    def test_every_route_tells_why_it_is_closed(self, attempt):
        converted = "torch-module, converted to onnx"
        install = Fix(command="pip install 'polyface-toy[torch]' 'exporter>=2'")
        other = Fix(settings={"weights": "wider"})
        assert reasons_of(attempt, weights=OTHER, without={"torch", "exporter"}) == [
            NOTHING_STORED,
            Reason(subject="packaged onnx graph", why="holds the weights 'wider', not '/b.pth'", fix=other),
            Reason(subject=converted, why="torch is not installed", fix=install),
            Reason(subject=converted, why="exporter is not installed", fix=install),
        ]

    def test_no_converter_at_all_names_the_package_that_has_one(self, attempt):
        reason = reasons_of(attempt, weights=OTHER, converters=[])[-1]
        assert (reason.subject, str(reason.fix)) == ("converters", ELSEWHERE)
        assert reason.why == "none that is installed makes onnx from torch-module, onnx"
        # Without torch the module itself could not be built either: one command brings both.
        reason = reasons_of(attempt, weights=OTHER, converters=[], without={"torch"})[-1]
        assert str(reason.fix) == ELSEWHERE.replace("install ", "install 'polyface-toy[torch]' ", 1)

    def test_no_converter_to_a_kind_nobody_knows_sends_to_another_pair(self, attempt, backend_spec):
        with pytest.raises(UnsupportedError) as caught:
            attempt(backend=attrs.evolve(backend_spec, accepts=["engine"]))
        assert (caught.value.reasons[-1].subject, str(caught.value.reasons[-1].fix)) == ("converters", "")
        assert str(caught.value.fix) == "choose another pair: polyface matrix"

    def test_of_a_file_the_other_pairs_are_shown_by_a_command_about_the_file(self, attempt, backend_spec):
        file = Weights(
            detector="/my mine.onnx", own=Path("/my mine.onnx"), is_default=True, read_as=("--family", "toys")
        )
        with pytest.raises(UnsupportedError) as caught:
            attempt(backend=attrs.evolve(backend_spec, accepts=["engine"]), weights=file)
        command = "choose another pair: polyface matrix --detector '/my mine.onnx' --family toys"
        assert str(caught.value.fix) == command
        assert str(pickle.loads(pickle.dumps(caught.value)).fix) == command  # noqa: S301 - our own
        assert str(refusal(Config(detector="/my mine.onnx"), [caught.value, caught.value]).fix) == command

    def test_a_packaged_graph_with_other_weights_is_not_converted_either(self, attempt, backend_spec, converter_spec):
        onward = attrs.evolve(converter_spec, source="onnx", target="engine")
        engine = attrs.evolve(backend_spec, accepts=["engine"])
        assert attempt(backend=engine, converters=[onward]).description == "onnx, converted to engine"
        reasons = reasons_of(attempt, backend=engine, converters=[onward], weights=OTHER)
        assert "holds the weights 'wider', not '/b.pth'" in [reason.why for reason in reasons]

    def test_the_message_holds_every_reason(self, attempt):
        with pytest.raises(UnsupportedError) as caught:
            attempt(weights=OTHER, converters=[])
        assert "\n  - onnx artifact: none is stored\n" in str(caught.value)
        assert str(caught.value).endswith(f'To fix it: weights="wider"; or: {ELSEWHERE}')


class TestPrecisionsOfAKindOfTheirOwn:
    """A backend that runs ``onnx`` in fp32, and in int8 what a calibrated converter makes of it."""

    @pytest.fixture
    def backend(self, backend_spec):
        narrow = Capability(device="cpu", precisions=("int8",), accepts=("onnx-int8",))
        return attrs.evolve(backend_spec, capabilities=[*backend_spec.capabilities, narrow])

    @pytest.fixture
    def quantizer(self):
        return ConverterSpec(source="onnx", target="onnx-int8", calibrated=True, factory=Ref("toy_faces:Quantizer"))

    @pytest.mark.parametrize(("precision", "kind"), [("fp32", "onnx"), ("int8", "onnx-int8")])
    def test_the_precision_chooses_the_kind(self, attempt, backend, precision, kind):
        assert attempt(backend=backend, precision=precision, stored=STORED).kind == kind

    def test_a_device_that_stands_twice_has_the_precisions_of_both(self, backend):
        assert refusals(backend, "cpu", "fp32") == refusals(backend, "cpu", "int8") == []
        [reason] = refusals(backend, "cpu", "int4")
        assert reason.why == "does not run in 'int4' on device 'cpu' (it has fp32, int8); did you mean 'int8'?"
        assert refusals(backend, "cuda", "int8")[0].why == "does not run in 'int8' on device 'cuda' (it has fp32, fp16)"

    def test_a_calibrated_converter_never_runs_by_itself(self, attempt, backend, quantizer, converter_spec):
        reasons = reasons_of(attempt, backend=backend, precision="int8", converters=[converter_spec, quantizer])
        assert reasons == [
            NOTHING_STORED,
            Reason(
                subject="converter 'onnx-to-onnx-int8'",
                why="needs images to calibrate with",
                fix=Fix(command="polyface quantize toy --images DIR --to onnx-int8"),
            ),
        ]

    def test_a_network_that_keeps_all_in_float_says_so(self, attempt, backend, detector, quantizer, converter_spec):
        whole = attrs.evolve(detector, keep_float=("*",))
        converters = [converter_spec, quantizer]
        reasons = reasons_of(attempt, detector=whole, backend=backend, precision="int8", converters=converters)
        why = "its record keeps every layer in float (keep_float): 8 bits would cost it too much accuracy"
        assert reasons == [NOTHING_STORED, Reason(subject="detector 'toy'", why=why)]

    def test_a_damaged_one_of_the_users_is_not_replaced_by_the_packaged_one(self, attempt, backend, detector, wider):
        packaged = attrs.evolve(detector.graphs[1], kind="onnx-int8")
        ships = attrs.evolve(detector, graphs=[*detector.graphs, packaged])
        arguments = {"detector": ships, "backend": backend, "precision": "int8", "weights": wider}
        assert attempt(**arguments).description == "onnx-int8, packaged"
        damaged = Reason(subject="onnx-int8 artifact", why="it is damaged", fix="rm -r it")
        assert reasons_of(attempt, **arguments, stored=damaged) == [damaged]
        # An exported graph is the packaged one over again.
        assert attempt(stored=damaged).description == "onnx, packaged"

    def test_where_none_is_installed_its_package_is_named(self, attempt, backend):
        reason = reasons_of(attempt, backend=backend, precision="int8", weights=OTHER)[-1]
        assert reason.why == "none that is installed makes onnx-int8 from torch-module, onnx"
        assert str(reason.fix) == (
            "pip install 'polyface-onnxruntime[quantize]'; or: make it on a machine that has that, by "
            "`polyface quantize toy --images DIR --to onnx-int8 --weights /b.pth --output DIR`, and name DIR here as "
            "artifacts"
        )

    def test_exporting_to_its_kind_sends_to_quantize(self, planner, quantizer):
        with pytest.raises(UnsupportedError) as caught:
            planner(converters=[quantizer]).conversion("onnx-int8")
        assert str(caught.value.fix) == "polyface quantize toy --images DIR --to onnx-int8"

    class TestQuantization:
        @pytest.fixture
        def planned(self, planner, quantizer, converter_spec):
            def planned(kind="onnx-int8", **changes):
                return planner(**{"converters": [converter_spec, quantizer], **changes}).quantization(kind)

            return planned

        @pytest.mark.parametrize(
            ("changes", "route"),
            [
                ({}, "onnx, packaged"),
                ({"stored": STORED}, "onnx, from the artifact folder"),
                ({"weights": OTHER}, "torch-module, converted to onnx"),
            ],
        )
        def test_it_starts_from_the_graph_that_a_backend_would_get(self, planned, quantizer, changes, route):
            converter, found = planned(**changes)
            assert (converter, found.description) == (quantizer, route)

        def test_what_is_missing_is_named(self, planned, quantizer):
            wants = attrs.evolve(quantizer, requires=[Requirement(module="onnx", install="toy[quantize]")])
            with pytest.raises(UnsupportedError) as caught:
                planned(converters=[wants], without={"onnx"})
            assert caught.value.what == "'toy' cannot be quantized to 'onnx-int8' here."
            assert str(caught.value.fix) == "pip install 'toy[quantize]'"

        def test_without_a_route_to_the_graph_the_reasons_are_those_of_a_plan(self, planned, quantizer):
            with pytest.raises(UnsupportedError) as caught:
                planned(converters=[quantizer], weights=OTHER)
            assert str(caught.value.reasons[-1].fix) == ELSEWHERE

        def test_a_kind_that_none_makes_offers_the_nearest(self, planned):
            with pytest.raises(UnsupportedError) as caught:
                planned("onnx-int4")
            [reason] = caught.value.reasons
            assert reason.why == (
                "none that is installed quantizes to onnx-int4 (there is onnx-int8); did you mean 'onnx-int8'?"
            )
            assert reason.fix == Fix(command="polyface quantize toy --images DIR --to onnx-int8")

        def test_without_a_quantizer_the_package_that_has_one_is_named(self, planned, converter_spec):
            with pytest.raises(UnsupportedError) as caught:
                planned(converters=[converter_spec])
            assert str(caught.value.fix) == "pip install 'polyface-onnxruntime[quantize]'"


class TestGraphsThatAreWeights:
    """A torch module for the checkpoint 'wider', and the weights 'ready', whose file is an ONNX graph."""

    OWN = Weights(detector="toy", own=Path("/b.ONNX"), sha256="cd" * 32)

    @pytest.fixture
    def detector(self, detector_spec, weights_file):
        files = [weights_file, attrs.evolve(weights_file, name="ready", filename="ready.onnx")]
        itself = GraphSource(kind="onnx", weights="ready")
        return attrs.evolve(detector_spec, weights=files, graphs=[*detector_spec.graphs, itself])

    @pytest.fixture
    def ready(self, detector):
        return Weights(detector="toy", file=detector.weights[1], sha256=detector.weights[1].sha256)

    @pytest.mark.parametrize("own", [False, True])
    def test_they_are_run_as_they_are(self, attempt, detector, ready, own):
        route = attempt(weights=self.OWN if own else ready, without={"torch", "exporter"})
        assert (route.source, route.converter) == (detector.graphs[1], None)
        assert (route.needs_weights, route.description) == (True, "onnx, the file of weights itself")

    @pytest.mark.parametrize(
        ("weights", "why"),
        [
            (OTHER, "holds the weights 'ready', not '/b.pth', which does not end in .onnx"),
            (None, "holds the weights 'ready', not 'wider'"),
        ],
    )
    def test_a_checkpoint_is_never_taken_for_one(self, attempt, wider, weights, why):
        assert attempt(weights=weights or wider).description == "torch-module, converted to onnx"
        reasons = reasons_of(attempt, weights=weights or wider, converters=[])
        fix = Fix(settings={"weights": "ready"})
        assert Reason(subject="onnx graph", why=why, fix=fix) in reasons

    @pytest.mark.parametrize("own", [False, True])
    def test_a_builder_is_never_given_one(self, attempt, backend_spec, ready, own):
        torch = attrs.evolve(backend_spec, accepts=["torch-module"])
        chosen = self.OWN if own else ready
        reasons = reasons_of(attempt, backend=torch, weights=chosen)
        assert reasons[1] == Reason(
            subject="torch-module builder",
            why=f"loads checkpoints, and the weights '{chosen.label}' are a graph",
            fix=NO_FIX if own else Fix(settings={"weights": "wider"}),
        )

    def test_nor_one_that_it_does_not_know(self, attempt, detector_spec, backend_spec):
        torch = attrs.evolve(backend_spec, accepts=["torch-module"])
        [_, refused, _] = reasons_of(attempt, detector=detector_spec, backend=torch, weights=self.OWN)
        assert refused.why == "loads checkpoints, and the weights '/b.ONNX' are a graph"
        assert not refused.fix

    def test_no_exporter_is_named_for_what_it_cannot_load(self, attempt, detector_spec):
        reasons = reasons_of(attempt, detector=detector_spec, weights=self.OWN, converters=[])
        assert [str(reason.fix) for reason in reasons] == ["", ""]

    def test_each_file_may_be_one(self, attempt, detector, ready, wider):
        second = GraphSource(kind="onnx", weights="wider")
        both = attrs.evolve(detector, graphs=[detector.graphs[1], second])
        assert attempt(detector=both, weights=ready).source is detector.graphs[1]
        assert attempt(detector=both, weights=wider).source is second

    @pytest.mark.parametrize("own", [False, True])
    def test_a_graph_of_another_kind_is_converted(self, attempt, detector, converter_spec, ready, own):
        fixed = attrs.evolve(detector, graphs=[GraphSource(kind="onnx-file", weights="ready")])
        frees = attrs.evolve(converter_spec, source="onnx-file")
        route = attempt(detector=fixed, converters=[frees], weights=self.OWN if own else ready)
        assert (route.converter, route.needs_weights) == (frees, True)
        assert route.description == "onnx-file, converted to onnx"

    def test_there_is_nothing_to_export(self, planner, ready):
        with pytest.raises(UnsupportedError) as caught:
            planner(weights=ready).conversion("onnx")
        assert caught.value.reasons[0] == Reason(
            subject="weights 'ready'", why="are a graph of the kind onnx themselves: there is nothing to export"
        )

    def test_they_are_listed_by_the_detector(self, detector):
        with pytest.raises(ContractError, match="has a graph made from weights it does not list"):
            attrs.evolve(detector, graphs=[GraphSource(kind="onnx", weights="other")])


class TestConversion:
    def test_a_stored_or_packaged_graph_does_not_count(self, planner, detector, converter_spec):
        route = planner().conversion("onnx")
        assert route == Route(kind="onnx", source=detector.graphs[0], converter=converter_spec)

    def test_what_the_converter_and_the_network_lack_is_told(self, planner):
        with pytest.raises(UnsupportedError, match="'toy' cannot be exported to 'onnx' here") as caught:
            planner(without={"torch", "exporter"}).conversion("onnx")
        assert [reason.why for reason in caught.value.reasons] == [
            "torch is not installed",
            "exporter is not installed",
        ]

    def test_a_kind_that_no_converter_makes_offers_the_nearest(self, planner):
        with pytest.raises(UnsupportedError) as caught:
            planner().conversion("onxx")
        assert caught.value.reasons[0] == Reason(
            subject="kind 'onxx'",
            why="the converters installed make onnx; did you mean 'onnx'?",
            fix=Fix(command="polyface export toy --to onnx"),
        )

    def test_without_a_converter_the_package_that_has_one_is_named(self, planner):
        with pytest.raises(UnsupportedError) as caught:
            planner(converters=[]).conversion("onnx")
        assert str(caught.value.fix) == ELSEWHERE.replace(" --weights /b.pth", "")


def test_a_refusal_needs_only_the_claim(backend_spec):
    assert refusals(backend_spec, "cpu", "fp32") == []
    assert refusals(backend_spec, "auto", "fp16") == []
    assert refusals(backend_spec, "cuda:7", "fp16") == []


def test_what_is_installed_is_found_without_importing_it():
    assert is_installed("polyface")
    assert is_installed("polyface.no_such_module")  # only the top-level module is looked for
    assert not is_installed("no_such_module")
    assert not is_installed("")


def test_missing_names_each_requirement_that_is_not_there():
    needs = [Requirement(module="polyface", install="polyface"), Requirement(module="no_such", install="such>=2")]
    assert missing("it", needs) == [
        Reason(subject="it", why="no_such is not installed", fix=Fix(command="pip install 'such>=2'"))
    ]


class TestChooseDevice:
    HERE = (
        DeviceReport(device="cuda:0", precisions=("fp32",), detail="old card"),
        DeviceReport(device="cuda:1", precisions=("fp32", "fp16")),
        DeviceReport(device="cpu", precisions=("fp32",)),
    )

    @pytest.mark.parametrize(
        ("device", "precision", "chosen"),
        [
            ("auto", "fp32", "cpu"),  # the order of the capabilities, not of what was found
            ("auto", "fp16", "cuda:1"),
            ("cpu", "fp32", "cpu"),
            ("cuda", "fp32", "cuda:0"),
            ("cuda:1", "fp32", "cuda:1"),
            ("cuda:1", "fp16", "cuda:1"),
        ],
    )
    def test_a_device_is_taken_exactly_and_auto_in_the_backends_order(self, backend_spec, device, precision, chosen):
        assert select_device(backend_spec, self.HERE, device, precision) == chosen

    @pytest.mark.parametrize(
        ("device", "precision"),
        [("cuda:2", "fp32"), ("cuda", "fp16"), ("cuda:0", "fp16"), ("cpu", "fp16"), ("cpu:1", "fp32"), ("auto", "x")],
    )
    def test_what_is_not_there_is_refused_never_replaced(self, backend_spec, device, precision):
        with pytest.raises(BackendUnavailableError) as caught:
            select_device(backend_spec, self.HERE, device, precision)
        assert caught.value.what == (
            f"The backend 'fast' cannot run on device '{device}' in '{precision}' on this machine."
        )
        assert caught.value.why == (
            "found cuda:0: fp32 (old card)",
            "found cuda:1: fp32, fp16",
            "found cpu: fp32",
        )

    def test_a_machine_with_nothing_says_so(self, backend_spec):
        with pytest.raises(BackendUnavailableError) as caught:
            select_device(backend_spec, (), "auto", "fp32")
        assert caught.value.why == ("it found no device",)

    def test_auto_follows_the_order_of_the_claims_not_of_the_alphabet(self, backend_spec):
        spec = attrs.evolve(backend_spec, capabilities=[Capability(device="cuda"), Capability(device="cpu")])
        found = (DeviceReport(device="cpu", precisions=("fp32",)), DeviceReport(device="cuda:0", precisions=("fp32",)))
        assert select_device(spec, found, "auto", "fp32") == "cuda:0"

    def test_a_device_that_is_not_there_says_why_and_what_would_bring_it(self, backend_spec):
        absent = DeviceReport(device="cuda", precisions=(), detail="no driver", fix="install the driver")
        with pytest.raises(BackendUnavailableError) as caught:
            select_device(backend_spec, (absent, DeviceReport(device="cpu", precisions=("fp32",))), "cuda:1", "fp32")
        assert caught.value.why == ("found cuda: not there (no driver)", "found cpu: fp32")
        assert str(caught.value.fix) == "install the driver"

    def test_auto_takes_only_what_the_backend_claims(self, backend_spec):
        found = (DeviceReport(device="tpu", precisions=("fp32",)),)
        with pytest.raises(BackendUnavailableError):
            select_device(backend_spec, found, "auto", "fp32")


def test_a_graph_without_baked_weights_fits_any(attempt, detector, backend_spec):
    free = GraphSource(kind="numpy", ref=Ref("toy_faces.net:onnx"))
    numpy = attrs.evolve(backend_spec, accepts=["numpy"])
    route = attempt(backend=numpy, detector=attrs.evolve(detector, graphs=[free]), weights=OTHER)
    assert (route.source, route.needs_weights) == (free, True)


@pytest.mark.skipif(sys.platform != "linux", reason="names a library of Linux")
@pytest.mark.parametrize(
    ("driver", "there"),
    [((), False), (("libno-such-driver.so.1",), False), (("libno-such-driver.so.1", "libc.so.6"), True)],
)
def test_a_driver_is_there_if_one_of_its_libraries_can_be_loaded(driver, there):
    assert has_driver(driver) is there
