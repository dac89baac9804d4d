"""``--detector mine.onnx --family NAME``: a user's own file on the command line."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec, FamilySpec

onnx = pytest.importorskip("onnx", reason="the files are written with onnx: pip install onnx")
from onnx_files import make_image, write_ssd  # noqa: E402 - only once onnx is known to be there


@pytest.fixture(autouse=True)
def file(folder, monkeypatch, require):
    require("onnxruntime")
    if "ssd" not in installed_plugins().by_name(FamilySpec):
        pytest.skip("no plugin that is installed offers the family")
    for variable in ("POLYFACE_DETECTOR", "POLYFACE_BACKEND"):
        monkeypatch.delenv(variable)
    Image.fromarray(make_image()).save("a.png")
    return write_ssd(folder / "mine.onnx")


def boxes(result):
    assert result.exit_code == 0, result.stderr
    return [[round(side) for side in face["box"]] for face in json.loads(result.stdout)["faces"]]


def test_detect_runs_it(polyface):
    command = ("detect", "a.png", "--backend", "onnxruntime", "--json", "--detector", "./mine.onnx")
    assert boxes(polyface(*command, "--family", "ssd")) == [[39, 79, 49, 89]]
    options = "mean=[127,127,127],strides=[8,16,32,64],scores=probabilities"
    assert boxes(polyface(*command, "--family", "ssd", "--family-options", options)) == [[39, 79, 49, 89]]
    assert boxes(polyface(*command, "--family", "ssd", "--family-options", "channels=bgr")) == []


def test_options_in_the_environment_are_of_the_detector_there(polyface):
    command = ("detect", "a.png", "--backend", "onnxruntime", "--json")
    said = {"POLYFACE_FAMILY": "ssd", "POLYFACE_FAMILY_OPTIONS": "channels=bgr"}
    assert boxes(polyface(*command, POLYFACE_DETECTOR="./mine.onnx", **said)) == []
    result = polyface(*command, "--detector", "./mine.onnx", **said)
    assert boxes(result) == [[39, 79, 49, 89]]
    assert "family_options (environment POLYFACE_FAMILY_OPTIONS) is left out" in result.stderr


def test_options_of_another_file_and_what_a_family_is_elsewhere_count_no_more(polyface, folder):
    (folder / "other.toml").write_text('detector = "other.onnx"\nfamily = "ssd"\nfamily_options = {channels = "bgr"}\n')
    command = ("detect", "a.png", "--backend", "onnxruntime", "--json", "--config", "other.toml", "--detector")
    assert boxes(polyface(*command, "mine.onnx", "--family", "ssd")) == [[39, 79, 49, 89]]
    (folder / "mine.toml").write_text('family = "ssd"\n')
    assert boxes(polyface(*command, "mine.onnx", POLYFACE_FAMILY="yunet")) == [[39, 79, 49, 89]]


def test_config_shows_what_lies_beside_the_file_as_detect_uses_it(polyface, folder):
    (folder / "mine.toml").write_text('family = "ssd"\n[family_options]\nchannels = "bgr"\n')
    shown = json.loads(polyface("config", "--detector", "./mine.onnx", "--json", POLYFACE_FAMILY="yunet").stdout)
    beside = str(folder / "mine.toml")
    assert shown["detector"] == {"value": str(folder / "mine.onnx"), "source": "option"}
    assert shown["family"] == {"value": "ssd", "source": beside}
    assert shown["family_options"] == {"value": {"channels": "bgr"}, "source": beside}


def test_a_file_beside_it_or_a_configuration_says_the_rest(polyface, folder):
    (folder / "mine.toml").write_text('family = "ssd"\n')
    (folder / "below").mkdir()
    (folder / "below/polyface.toml").write_text('detector = "../mine.onnx"\nbackend = "onnxruntime"\n')
    assert boxes(polyface("detect", "a.png", "--json", "--config", "below/polyface.toml")) == [[39, 79, 49, 89]]


def test_a_configuration_that_was_found_names_a_file_below_its_folder_alone(polyface, folder, monkeypatch):
    (folder / "mine.toml").write_text('family = "ssd"\n')
    (folder / "polyface.toml").write_text('detector = "mine.onnx"\n')
    assert boxes(polyface("detect", "a.png", "--json")) == [[39, 79, 49, 89]]
    (folder / "below").mkdir()
    (folder / "below/polyface.toml").write_text('detector = "../mine.onnx"\n')
    monkeypatch.chdir(folder / "below")
    result = polyface("detect", "../a.png", "--json")
    assert result.exit_code == 2
    assert "detector must lie below the folder of the file that sets it" in result.stderr


def test_without_a_family_the_message_has_the_option_and_the_line_to_write(polyface, folder):
    result = polyface("detect", "a.png", "--detector", "mine.onnx")
    assert result.exit_code == 2
    assert "mine.onnx has the outputs scores (1, 4420, 2), boxes (1, 4420, 4)" in result.stderr
    assert "To fix it: --family ssd; or: " in result.stderr
    assert f'write family = "ssd" into {folder}/mine.toml' in result.stderr


def test_a_command_that_a_message_names_is_about_the_file(polyface, file):
    options = ("--family", "ssd", "--family-options", "channels=bgr")
    result = polyface("export", "mine.onnx", *options, "--to", "onnx-int8")
    assert result.exit_code == 2
    assert f"polyface quantize {file} --images DIR --to onnx-int8 {' '.join(options)}" in result.stderr


def test_bench_takes_the_family_for_files_alone(polyface):
    command = ("bench", "mine.onnx", "example-redbox", "--rounds", "1", "--sizes", "64x64", "--json")
    result = polyface(*command, "--family", "ssd", "--backends", "auto")
    assert result.exit_code == 0, result.stderr
    assert [row["detector"] for row in json.loads(result.stdout)["rows"]] == ["mine.onnx", "example-redbox"]
    result = polyface("bench", "example-redbox", "--family", "ssd")
    assert result.exit_code == 2
    assert "the detector 'example-redbox' is none" in result.stderr


def test_a_family_in_the_environment_leaves_detectors_with_a_name_alone(polyface):
    result = polyface("detect", "a.png", "--detector", "example-redbox", "--json", POLYFACE_FAMILY="ssd")
    assert result.exit_code == 0, result.stderr


def test_matrix_shows_where_it_runs(polyface):
    result = polyface("matrix", "--detector", "mine.onnx", "--family", "ssd", "--json")
    cells = json.loads(result.stdout)
    assert {cell["detector"] for cell in cells} == {"mine.onnx"}
    assert "ready" in [cell["status"] for cell in cells if cell["backend"] == "onnxruntime"]
    # Its one precision is another, but no route would be open in that.
    assert {cell["fix"] for cell in cells if cell["backend"] == "cuda-fp16"} <= {""}
    for command in ("matrix --detector mine.onnx", "matrix --detector example-redbox --family ssd"):
        assert polyface(*command.split()).exit_code == 2
    assert polyface("matrix", POLYFACE_DETECTOR="example-redbox", POLYFACE_FAMILY="ssd").exit_code == 0


@pytest.mark.parametrize("command", ["weights", "fetch"])
def test_it_is_its_own_weights(polyface, command):
    result = polyface(command, "./mine.onnx")
    assert result.exit_code == 2
    assert "error: ./mine.onnx is its own weights: there is nothing to fetch or to list." in result.stderr


def test_detectors_and_plugins_list_the_families(polyface):
    listed = polyface("detectors").stdout
    assert "Families of ONNX files" in listed
    assert "option channels (str, default rgb): " in listed
    assert "families: retinaface, ssd" in polyface("plugins").stdout
    [entry] = [entry for entry in json.loads(polyface("plugins", "--json").stdout) if entry["name"] == "retinaface"]
    assert entry["families"] == ["retinaface", "ssd"]


@pytest.fixture
def named(require):
    """A detector whose published file is converted first, and which holds another network than the file at hand."""
    require("onnx")
    if "yunet-s" not in installed_plugins().by_name(DetectorSpec):
        pytest.skip("no plugin that is installed has the detector")
    return ("detect", "a.png", "--backend", "onnxruntime", "--detector", "yunet-s", "--weights", "mine.onnx")


def test_as_weights_of_a_detector_of_another_kind_it_is_said_of_which_family_it_may_be(polyface, named, file):
    result = polyface(*named)
    assert result.exit_code != 0
    assert f"{file} does not hold a network like that of 'yunet-s'." in result.stderr
    assert "it gives scores (1, 4420, 2), boxes (1, 4420, 4)" in result.stderr
    assert f"run it as a detector: --detector {file} --family ssd" in result.stderr
    assert "free batch" not in result.stderr


def test_as_weights_a_file_that_is_of_no_family_is_said_to_be_of_none(polyface, named, file):
    model = onnx.load(file)
    del model.graph.output[1]
    onnx.save(model, file)
    result = polyface(*named)
    assert result.exit_code != 0
    assert "by its shapes it is of none of the families that are installed (" in result.stderr
    assert "To fix it" not in result.stderr


def test_what_its_head_may_not_give_names_the_family_and_its_options(polyface, folder):
    write_ssd(folder / "mine.onnx", logits=True)
    command = ("detect", "a.png", "--backend", "onnxruntime", "--detector", "mine.onnx", "--family", "ssd")
    result = polyface(*command, "--family-options", "scores=probabilities")
    assert "'mine' gave scores from -20 to 8; wanted: from 0 to 1." in result.stderr
    assert "its head is that of the family 'ssd' of polyface-retinaface" in result.stderr
    assert "To fix it: change --family-options or --family; or: mend the family 'ssd'" in result.stderr
    result = polyface(*command, "--family-options", "mean=[1e40,1,1]")
    assert "mean must be numbers that float32 can hold, not (1e+40, 1, 1)." in result.stderr
    result = polyface(*command, "--family-options", "std=[1e-37,1,1]")
    assert "to fix it: change --family-options; or: get the file again" in result.stderr
