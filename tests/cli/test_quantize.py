"""``polyface quantize``, with a quantizer that writes down the sizes it was shown."""

from __future__ import annotations

import json
import shlex
import sys
import types
from pathlib import Path

import pytest

from polyface.machine.drivers import is_installed
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import ConverterSpec, Ref

pytestmark = pytest.mark.skipif(not is_installed("polyface_example"), reason="quantizes the toy of polyface-example")


class Converter:
    def convert(self, graph, directory):
        (directory / "graph.onnx").write_text(graph.source.target)
        return directory / "graph.onnx"

    def provenance(self):
        return {}


class Quantizer:
    def quantize(self, _graph, images, directory):
        sizes = [f"{image.shape[3]}x{image.shape[2]}" for image in images]
        (directory / "graph.int8").write_text(" ".join(sizes))
        return directory / "graph.int8"

    def provenance(self):
        return {"bits": "8"}


@pytest.fixture(autouse=True)
def machine(polyface, monkeypatch):
    fake = types.ModuleType("toy_bits")
    fake.Converter, fake.Quantizer = Converter, Quantizer
    monkeypatch.setitem(sys.modules, "toy_bits", fake)
    plugin = types.ModuleType("plugin")
    plugin.polyface_converters = hookimpl(
        lambda: [
            ConverterSpec(source="numpy", target="onnx", factory=Ref("toy_bits:Converter")),
            ConverterSpec(source="onnx", target="onnx-int8", calibrated=True, factory=Ref("toy_bits:Quantizer")),
        ]
    )
    plugins = PluginManager.discover({"POLYFACE_PLUGINS": "polyface-example"})
    plugins.register(plugin, name="bits")
    polyface.plugins = plugins


@pytest.fixture
def quantize(polyface):
    def quantize(*options):
        result = polyface("quantize", "example-redbox", "--images", "images", "--json", *options)
        return result, json.loads(result.stdout) if result.stdout else None

    return quantize


def sizes(entry):
    return Path(entry["path"]).read_text().split()


def test_it_goes_through_the_images_of_the_folder_in_order_and_says_what_it_made(quantize, image, folder):
    image("images/b.png", 100, 40)
    image("images/below/c.jpg", 20, 20)
    image("images/a.png", 64, 48)
    result, entry = quantize("--output", "graphs")
    assert (result.exit_code, result.stderr) == (0, "")
    assert sizes(entry) == ["64x64", "128x64", "32x32"]  # a, b, below/c: padded to multiples of 32
    assert Path(entry["path"]).is_relative_to(folder / "graphs")
    assert (entry["kind"], entry["new"]) == ("onnx-int8", True)
    assert entry["provenance"]["calibration"].startswith("3 images, max_side=None")
    assert quantize("--output", "graphs")[1]["new"] is False


def test_sizes_are_those_it_will_detect_at(quantize, image):
    image("images/a.png", 400, 200)
    assert sizes(quantize("--max-side", "100", "--pad-to", "8")[1]) == ["104x56"]
    assert sizes(quantize("--infer-size", "64x96")[1]) == ["96x64"]


def test_of_many_images_a_few_are_taken_from_everywhere(quantize, image):
    for number in range(10):
        image(f"images/{number}.png", 32 * (number + 1), 32)
    assert sizes(quantize("--count", "3")[1]) == ["32x32", "128x32", "224x32"]  # 0, 3 and 6
    assert len(sizes(quantize("--count", "10")[1])) == 10


def test_an_image_that_cannot_be_read_is_named_and_the_rest_is_used(quantize, image, folder):
    image("images/a.png")
    (folder / "images" / "b.jpg").write_bytes(b"no image")
    result, entry = quantize()
    assert result.exit_code == 1
    assert result.stderr.startswith("images/b.jpg: is not an image in a format that is read")
    assert sizes(entry) == ["64x64"]


def test_without_an_image_there_is_nothing_to_calibrate_with(quantize, folder):
    (folder / "images").mkdir()
    result, _ = quantize()
    assert result.exit_code == 2
    assert "images: the folder has no images\n" in result.stderr
    assert "error: There is nothing to calibrate 'example-redbox' with." in result.stderr


def test_an_archive_is_refused_before_it_is_read_whole(polyface):
    result = polyface("quantize", "example-redbox", "--images", "shard.tar", "--output", "graphs")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --images shard.tar cannot be calibrated with.\n"
        "  - its images are no files of their own, which could be read again\n"
        "To fix it: unpack them into a folder\n"
    )


def test_the_table_ends_with_the_commands_that_run_and_compare_it(polyface, image):
    image("my images/a.png")
    result = polyface("quantize", "example-redbox", "--images", "my images", "--output", "graphs", COLUMNS="200")
    assert result.exit_code == 0
    assert "example-redbox as onnx-int8, quantized" in result.stdout
    run, compare = [shlex.split(line) for line in result.stdout.splitlines() if line.startswith("  polyface ")]
    there = ["--artifacts", str(Path("graphs").absolute())]
    assert run == ["polyface", "detect", "IMAGE", "--detector", "example-redbox", "--precision", "int8", *there]
    assert compare[:6] == [
        "polyface", "compare", "example-redbox", "--backends", "onnxruntime,onnxruntime:int8", "--images",
    ]  # fmt: skip
    assert compare[6:] == ["my images", *there]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "onnx-int4"], "none that is installed quantizes to onnx-int4 (there is onnx-int8)"),
        (["--count", "0"], "0 is not in the range x>=1"),
    ],
)
def test_what_cannot_be_made_is_refused(quantize, image, options, message):
    image("images/a.png")
    result, _ = quantize(*options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_export_sends_to_it(polyface):
    result = polyface("export", "example-redbox", "--to", "onnx-int8")
    assert result.exit_code == 2
    assert "To fix it: polyface quantize example-redbox --images DIR --to onnx-int8" in result.stderr
