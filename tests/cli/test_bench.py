"""``polyface bench``: which rows there are, what is written about them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import polyface.measure.rounds
from polyface.errors import Fix
from polyface.measure.rounds import Measurement


@pytest.fixture
def seconds(monkeypatch):
    """Have the rows take these seconds, by round, and start no process; an empty list is a row that fails."""

    def given(*rows):
        def measure(contenders, **_):
            return [
                Measurement(
                    contender=one,
                    seconds=tuple(taken),
                    facts={"device": "cpu"},
                    load=0.25,
                    first_call=0.5,
                    new_shape=0.125,
                    peak_memory=200_000_000,
                    **({} if taken else {"why": "no such thing", "fix": Fix(command="pip install thing")}),
                )
                for one, taken in zip(contenders, rows, strict=True)
            ], False

        monkeypatch.setattr(polyface.measure.rounds, "measure", measure)

    return given


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_each_combination_is_measured_and_recorded(polyface):
    result = polyface("bench", "--sizes", "16x24,32x32", "--batches", "1,2", "--rounds", "2", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["images"], report["rounds"]) == ("random noise (seed 0)", 2)
    assert {"date", "cpu", "cores", "usable_cores", "load", "polyface"} <= report["machine"].keys()
    rows = report["rows"]
    assert [(row["size"], row["batch"]) for row in rows] == [([16, 24], 1), ([16, 24], 2), ([32, 32], 1), ([32, 32], 2)]
    assert [row["reference"]["batch"] for row in rows] == [1, 1, 1, 1]
    assert [row["ratio"] for row in rows[::2]] == [1, 1]
    first = rows[0]
    assert first["label"] == "example-redbox on numpy"
    assert [first[name] for name in ("detector", "backend", "device", "precision", "why")] == [
        "example-redbox",
        "numpy",
        "cpu",
        "fp32",
        None,
    ]
    assert len(first["seconds"]) == 2
    assert first["settings"]["batch_size"] == 1
    assert first["facts"]["threads"] is None  # NumPy does not say
    assert set(first["facts"]["versions"]) == {"numpy"}


def test_a_row_that_the_backend_refuses_has_the_reason_in_the_place_of_figures(polyface):
    result = polyface("bench", "--backends", "numpy:fp16,numpy", "--sizes", "16x16", "--rounds", "1", "--json")
    assert result.exit_code == 1
    refused, measured = json.loads(result.stdout)["rows"]
    why = "backend 'numpy': does not run in 'fp16' on device 'auto' (it has fp32)"
    assert (refused["why"], refused["fix"], refused["median"]) == (why, "--precision fp32", None)
    # The first that was measured takes its place.
    assert measured["reference"] == {"label": "example-redbox on numpy", "batch": 1}
    assert measured["ratio"] == 1


def test_the_table_shows_ratios_to_the_first_row_of_the_size(polyface, seconds):
    seconds([0.2, 0.2, 0.2], [0.1, 0.08, 0.16], [0.4] * 3, [0.4] * 3)
    result = polyface("bench", "--sizes", "16x16,32x32", "--batches", "1,2", "--rounds", "3", "--seed", "7")
    assert result.exit_code == 0
    assert result.stdout.startswith("example-redbox, numpy, cpu, fp32, random noise (seed 7), 3 rounds\n")
    head, *rows = [line for line in map(cells, result.stdout.splitlines()) if len(line) > 5]
    figures = ["Median", "Quartiles", "Images/s", "Ratio", "Load", "First call", "New shape", "Memory"]
    assert head == ["Size", "Batch", *figures]
    rest = ["250 ms", "500 ms", "125 ms", "200.0 MB"]
    assert rows == [
        ["16x16", "1", "200.0 ms", "200.0-200.0", "5.0", "1.00 x", *rest],
        # Two images a call: 4, 5 and 2.5 times as many.
        ["16x16", "2", "100.0 ms", "90.0-130.0", "20.0", "4.00 x", *rest],
        ["32x32", "1", "400.0 ms", "400.0-400.0", "2.5", "1.00 x", *rest],
        ["32x32", "2", "400.0 ms", "400.0-400.0", "5.0", "2.00 x", *rest],
    ]


def test_a_precision_that_is_slower_than_fp32_is_marked_in_words(polyface, seconds):
    seconds([0.2] * 4, [0.4, 0.4, 0.4, 0.1], [0.1] * 4, [0.1] * 4)
    options = ["--backends", "numpy,numpy:fp16,numpy:bf16,polyface-example/numpy:fp16", "--sizes", "16x16"]
    head, *rows = [line for line in map(cells, polyface("bench", *options).stdout.splitlines()) if len(line) > 5]
    assert head[-1] == "To fp32"
    # The last backend was not measured in fp32 under that name.
    assert [row[-1] for row in rows] == ["-", "0.50 x, slower than fp32", "2.00 x", "-"]
    rows = json.loads(polyface("bench", *options, "--json").stdout)["rows"]
    assert [row["fp32_ratio"] for row in rows] == [None, 0.5, 2, None]
    assert [row["slower_than_fp32"] for row in rows] == [False, True, False, False]


def test_below_the_table_stands_what_was_not_measured_and_the_command_that_mends_it(polyface, seconds):
    seconds([0.25], [])
    result = polyface("bench", "--batches", "1,2")
    assert result.exit_code == 1
    below = result.stdout[result.stdout.index("Not measured") :]
    assert ["example-redbox on numpy", "480x640", "2", "no such thing"] in map(cells, below.splitlines())
    assert below.endswith("For example-redbox on numpy:\n  pip install thing\n")


def test_where_nothing_was_measured_there_is_no_empty_table(polyface, seconds):
    seconds([])
    result = polyface("bench", "--plot", "bench.png")
    assert result.exit_code == 1
    assert result.stdout.startswith("Not measured\n")
    assert not Path("bench.png").exists()


def test_given_images_are_taken_as_they_are_and_those_that_cannot_be_read_are_named(polyface, image):
    image("shots/a.png")
    image("shots/c.png", 80, 56)
    Path("shots/b.png").write_bytes(b"not an image")
    result = polyface("bench", "--images", "shots", "--rounds", "2", "--json")
    assert result.exit_code == 1
    assert "left out: shots/b.png: is not an image in a format that is read" in result.stderr
    report = json.loads(result.stdout)
    assert report["images"] == "2 images of shots"
    assert [(row["size"], len(row["seconds"]), row["why"]) for row in report["rows"]] == [(None, 2, None)]


def test_no_more_images_are_read_than_the_rounds_take(polyface, image, seconds):
    for name in "abc":
        image(f"shots/{name}.png")
    seconds([0.5], [0.5])
    result = polyface("bench", "--images", "shots", "--rounds", "1", "--batches", "1,2", "--sizes", "16x16", "--json")
    assert json.loads(result.stdout)["images"] == "2 images of shots"


def test_the_plot_is_an_image_of_that_kind(polyface, seconds, require):
    require("matplotlib")
    seconds([0.5, 0.25], [])
    polyface("bench", "--batches", "1,2", "--plot", "new/bench.png")
    assert Path("new/bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["example-bluebox"], "'example-bluebox'"),
        (["--backends", "nunpy"], "did you mean 'numpy'"),
        (["--backends", "numpy::fp32"], "'numpy::fp32' is not of the form NAME[:PRECISION][@DEVICE]."),
        (["--backends", "numpy,numpy"], "--backends names 'numpy' twice."),
        (["--sizes", "640"], "--sizes 640: each must be a height and a width from 1 to 65536"),
        (["--batches", "1,none"], "--batches 1,none: each must be a whole number from 1 to 65536"),
        (["--images", "nowhere"], "--images nowhere: not one image could be read."),
        (
            ["--backends", "numpy", "--backend", "auto", "--backend-options", "threads=1"],
            "which --backends does not name.",
        ),
        (["--infer-size", "48x48", "--max-side", "99"], "infer_size and max_side contradict each other."),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_measured(polyface, seconds, options, message):
    seconds()  # to measure would be an error
    result = polyface("bench", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_options_go_to_the_backend_of_the_settings_and_to_no_other(polyface, seconds):
    seconds([0.5], [0.5])
    options = ["--backends", "numpy,polyface-example/numpy", "--backend", "numpy", "--backend-options", "threads=1"]
    rows = json.loads(polyface("bench", *options, "--json").stdout)["rows"]
    assert [row["settings"]["backend_options"] for row in rows] == [{"threads": 1}, {}]


def test_a_plot_that_cannot_be_written_does_not_cost_the_figures(polyface, seconds, require):
    require("matplotlib")
    seconds([0.5])
    Path("taken").write_text("a file")
    result = polyface("bench", "--plot", "taken/bench.png")
    assert result.exit_code == 2
    assert "500.0 ms" in result.stdout
    assert "error: Cannot write to taken/bench.png.\n" in result.stderr
