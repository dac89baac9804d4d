"""``polyface compare``, with the toy on backends of which some are wrong by a known amount."""

from __future__ import annotations

import json
import sys
import types

import attrs
import numpy as np
import pytest

import polyface.sources.plugin as sources
from polyface.machine.drivers import is_installed
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import DeviceReport, Execution
from polyface.plugins.records import BackendSpec, Capability, Ref

pytestmark = pytest.mark.skipif(not is_installed("polyface_example"), reason="compares the toy of polyface-example")

ERRORS = {
    "exact": {},
    "near": {"loc": 5e-5},
    "far": {"loc": 0.125},  # a pixel to the right and down, and exp(0.125) times as large
    "blind": {"logits": (100, -100)},
    "huge": {"loc": np.inf},
}


class Session:
    def __init__(self, session, precision, errors):
        self.execution = Execution(device="cpu", precision=precision)
        self.session, self.errors, self.close = session, errors, session.close

    def run(self, inputs):
        return {name: head + np.float32(self.errors.get(name, 0)) for name, head in self.session.run(inputs).items()}


def backend(errors):
    class Backend:
        def probe(self):
            return (DeviceReport(device="cpu", precisions=("fp32", "bf16", "int4")),)

        def compile(self, graph, request):
            from polyface_example.backend import NumpyBackend

            session = NumpyBackend().compile(graph, attrs.evolve(request, precision="fp32"))
            return Session(session, request.precision, errors)

    return Backend


@pytest.fixture(autouse=True)
def strangers(polyface, monkeypatch):
    """A stranger's plugin whose backends run the toy, each with an error of its own."""
    fake = types.ModuleType("stranger_backends")
    plugin = types.ModuleType("plugin")
    specs = []
    for name, errors in ERRORS.items():
        setattr(fake, name, backend(errors))
        specs.append(
            BackendSpec(
                name=name,
                summary="Errs",
                accepts=("numpy",),
                capabilities=(Capability(device="cpu", precisions=("fp32", "bf16", "int4")),),
                factory=Ref(f"stranger_backends:{name}"),
            )
        )
    plugin.polyface_backends = hookimpl(specname="polyface_backends")(lambda: specs)
    monkeypatch.setitem(sys.modules, "stranger_backends", fake)
    plugins = PluginManager()
    import polyface_example.plugin

    plugins.register(sources, name="polyface", distribution="polyface")
    plugins.register(polyface_example.plugin, name="polyface-example")
    plugins.register(plugin, name="stranger")
    polyface.plugins = plugins


def compared(polyface, backends, *options, code=0):
    result = polyface("compare", "example-redbox", "--backends", backends, *options, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_equal_backends_differ_by_nothing(polyface, image):
    report = compared(polyface, "numpy,exact", "--images", image("a.png"))
    [entry] = report["backends"]
    assert (report["reference"]["label"], report["images"], entry["label"]) == ("numpy", 1, "exact")
    assert [head["output"] for head in entry["heads"]] == ["loc", "logits"]
    assert all(head["absolute"] == {"max": 0, "mean": 0, "median": 0} for head in entry["heads"])
    assert [head["cosine"] for head in entry["heads"]] == pytest.approx([1, 1])
    assert (entry["faces"]["expected"], entry["faces"]["matched"], entry["faces"]["iou"]) == (1, 1, 1)
    assert entry["over"] == []


def test_an_error_within_the_table_passes_and_is_shown_as_what_is_needed(polyface, image):
    [entry] = compared(polyface, "numpy,near", "--images", image("a.png"), code=1)["backends"]
    assert entry["needed"]["heads"] == pytest.approx(5e-5, rel=0.05)
    assert entry["over"] == ["mean"]  # every number is off, which the mean sees and the largest does not
    [entry] = compared(polyface, "numpy,near:bf16", "--images", image("a.png"))["backends"]
    assert (entry["precision"], entry["over"], entry["allowed"]["mean"]) == ("bf16", [], 0.03)


def test_a_backend_that_is_over_ends_with_status_1_and_the_others_are_shown_as_well(polyface, image):
    report = compared(polyface, "numpy,far,exact", "--images", image("a.png"), code=1)
    far, exact = report["backends"]
    assert far["needed"]["pixels"] == pytest.approx(1 + 4 * (np.exp(0.125) - 1), rel=1e-5)
    assert far["over"] == ["heads", "mean", "pixels"]
    assert exact["over"] == []


def test_backend_options_go_to_the_backend_they_are_of(polyface, image, monkeypatch):
    monkeypatch.setenv("POLYFACE_BACKEND", "near")
    monkeypatch.setenv("POLYFACE_BACKEND_OPTIONS", "threads=2")
    result = polyface("compare", "example-redbox", "--backends", "exact,near", "--images", image("a.png"))
    assert (result.exit_code, "The backend 'near' has no option 'threads'" in result.stderr) == (2, True)


def test_what_a_name_leaves_open_is_that_of_the_settings(polyface, image, monkeypatch):
    monkeypatch.setenv("POLYFACE_BACKEND_OPTIONS", "threads=2")  # of one backend, and no business of the others
    options = ("--images", image("a.png"), "--precision", "bf16")
    report = compared(polyface, "exact,near,exact:fp32", *options)
    assert [report["reference"]["precision"], *(entry["precision"] for entry in report["backends"])] == [
        "bf16",
        "bf16",
        "fp32",
    ]
    result = polyface("compare", "example-redbox", "--backends", "exact@cpu,near", "--device", "cuda")
    assert result.exit_code == 2
    assert "backend 'near': has no device 'cuda' (it has cpu)" in result.stderr


def test_a_face_that_is_lost_is_an_error_and_not_a_smaller_number(polyface, image):
    [entry] = compared(polyface, "numpy,blind", "--images", image("a.png"), code=1)["backends"]
    assert (entry["faces"]["expected"], entry["faces"]["actual"], entry["faces"]["unmatched"]) == (1, 0, 1)
    assert "unmatched" in entry["over"]


def test_noise_is_seeded_and_has_six_images_of_odd_and_even_sizes(polyface):
    one, same, other = (compared(polyface, "numpy,far", "--seed", seed, code=1) for seed in (1, 1, 2))
    assert one == same
    cosines = [[head["cosine"] for head in report["backends"][0]["heads"]] for report in (one, other)]
    assert cosines[0] != cosines[1]
    assert (one["images"], one["noise_seed"], other["noise_seed"]) == (6, 1, 2)


def test_the_noise_has_a_name_and_a_folder_of_that_name_another(polyface, image):
    image("random/a.png")
    assert compared(polyface, "numpy,exact", "--images", "random") == compared(polyface, "numpy,exact")
    assert compared(polyface, "numpy,exact", "--images", "./random")["images"] == 1


def test_the_tables_show_all_levels_and_the_verdict(polyface, image):
    image("in/a.png")
    result = polyface("compare", "example-redbox", "--backends", "numpy,far", "--images", "in")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "example-redbox on 1 image; the reference is numpy (cpu, fp32)"
    assert any(line.startswith("far loc 0.12 0.12 0.12 0.12 ") for line in lines)
    assert any(line.startswith("far 1 for 1 1 0 0 ") for line in lines)
    assert any(line.endswith("over: heads, mean, pixels") for line in lines)


def test_an_image_that_cannot_be_read_is_named_and_the_rest_is_done(polyface, image, folder):
    image("in/a.png")
    (folder / "in/b.png").write_bytes(b"no image")
    result = polyface("compare", "example-redbox", "--backends", "numpy,exact", "--images", "in", "--json")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("left out: in/b.png: is not an image in a format that is read: its 8 bytes do not begin")
    report = json.loads(result.stdout)
    assert (report["images"], report["failed"], report["backends"][0]["over"]) == (1, 1, [])


@pytest.mark.parametrize(
    ("backends", "message"),
    [
        ("numpy", "--backends names 'numpy' alone: there is nothing to compare it with."),
        ("numpy,numpy", "--backends names 'numpy' twice."),
        ("numpy,", "--backends: '' is not of the form NAME[:PRECISION][@DEVICE]."),
        ("numpy,exact:", "--backends: 'exact:' is not of the form"),
        ("numpy,exactt", "did you mean 'exact'?"),
        ("numpy,exact:bf61", "There is no tolerance for the precision 'bf61'."),
        ("numpy,exact:int4", "There is no tolerance for the precision 'int4'."),
        ("numpy:bf16,exact", "does not run in 'bf16'"),
        ("numpy,exact@cuda", "has no device 'cuda' (it has cpu)"),
        ("numpy,huge", "gave numbers that are not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(polyface, backends, message):
    result = polyface("compare", "example-redbox", "--backends", backends)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("images", ["nothing", "empty"])
def test_without_an_image_there_is_no_verdict(polyface, folder, images):
    (folder / "empty").mkdir()
    result = polyface("compare", "example-redbox", "--backends", "numpy,exact", "--images", images)
    assert result.exit_code == 2
    assert f"left out: {images}: " in result.stderr
    assert "error: Not one image could be read, so there is nothing to compare." in result.stderr


TRUTH = "{name}\n1\n{box} 0 0 0 0 0 0\n"
"""An image of the data set's text file: its faces as x, y, width, height, and six marks, of which none is set."""


@pytest.fixture
def widerface(image, folder):
    """Two images in folders by event, and the text file that says where their faces are."""
    for name in ("0--Parade/a", "1--Rally/b"):
        image(f"images/{name}.jpg", quality=95, subsampling=0)
    text = "".join(TRUTH.format(name=f"{name}.jpg", box="16 8 8 8") for name in ("0--Parade/a", "1--Rally/b"))
    (folder / "wider_face_val_bbx_gt.txt").write_text(text)
    return "--images", "images", "--ground-truth", "wider_face_val_bbx_gt.txt"


def test_with_ground_truth_there_is_average_precision(polyface, widerface):
    report = compared(polyface, "numpy,exact,blind", *widerface, code=1)
    exact, blind = report["backends"]
    assert report["reference"]["average_precision"] == exact["average_precision"] == {"all": 100}
    assert blind["average_precision"] == {"all": 0}
    result = polyface("compare", "example-redbox", "--backends", "numpy,blind", *widerface)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "numpy 100.00" in lines
    assert "blind 0.00 (-100.00)" in lines


def test_a_subset_without_faces_has_no_average_precision_and_the_report_remains_json(polyface, widerface, folder):
    truth = folder / "wider_face_val_bbx_gt.txt"
    truth.write_text(truth.read_text().replace("16 8 8 8 0 0 0 0 0 0", "16 8 8 8 0 0 0 1 0 0"))  # invalid
    report = compared(polyface, "numpy,exact", *widerface)
    assert report["reference"]["average_precision"] == {"all": None}
    assert report["backends"][0]["average_precision"] == {"all": None}
    result = polyface("compare", "example-redbox", "--backends", "numpy,exact", *widerface)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert {"numpy -", "exact -"} <= {*lines}


def test_an_image_that_the_ground_truth_does_not_know_is_refused(polyface, widerface, image):
    image("images/elsewhere.jpg")
    result = polyface("compare", "example-redbox", "--backends", "numpy,exact", *widerface)
    assert result.exit_code == 2
    assert "The ground truth has no image 'elsewhere'." in result.stderr


@pytest.mark.parametrize("images", [[], ["--images", "images/0--Parade/a.jpg"]])
def test_ground_truth_wants_its_folder_of_images(polyface, widerface, images):
    result = polyface("compare", "example-redbox", "--backends", "numpy,exact", *widerface[2:], *images)
    assert result.exit_code == 2
    assert "--ground-truth wants the images that it is about." in result.stderr
