"""``benchmarks/regression.py`` on made-up numbers: what of a benchmark makes it fail, and what does not."""

from __future__ import annotations

import importlib.util
import json

import pytest


@pytest.fixture(scope="module")
def script(pytestconfig):
    path = pytestconfig.rootpath / "benchmarks/regression.py"
    spec = importlib.util.spec_from_file_location("regression", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(label, ratio, *, size=(480, 640), batch=1, reference="eager", why=None):
    return {
        "label": label,
        "size": size,
        "batch": batch,
        "ratio": ratio,
        "reference": {"label": reference, "batch": 1},
        "why": why,
        "seconds": [9e9],  # never looked at
    }


@pytest.fixture
def run(script, tmp_path, capsys):
    """Compare rows with stored ones; the exit status and the lines come back."""

    def run(stored, fresh):
        for name, rows in (("stored", stored), ("fresh", fresh)):
            report = {"machine": {"cpu": "made up"}, "rounds": 3, "rows": rows}
            (tmp_path / f"{name}.json").write_text(json.dumps(report))
        ratios = str(tmp_path / "ratios.json")
        assert script.main([str(tmp_path / "stored.json"), "--store", "--stored", ratios]) == 0
        status = script.main([str(tmp_path / "fresh.json"), "--stored", ratios])
        return status, capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("ratio", [2.0, 3.0, 100.0, 9.0])
def test_up_to_one_and_a_half_times_worse_and_anything_better_is_fine(run, ratio):
    status, lines = run([row("ours", 3.0)], [row("ours", ratio)])
    assert (status, lines) == (0, [f"ok      ours, 480x640, batch 1 (3.00, now {ratio:.2f})"])


def test_more_than_that_fails_and_says_how_much(run):
    status, lines = run([row("ours", 3.0), row("theirs", 1.0)], [row("ours", 1.5), row("theirs", 1.0)])
    assert status == 1
    assert lines[0] == "FAILED  ours, 480x640, batch 1 is 2.00 times worse, more than 1.5 (3.00, now 1.50)"
    assert lines[1].startswith("ok      theirs")
    assert lines[3].startswith("1 failed; if that is meant")


def test_a_row_of_another_size_or_batch_is_another_row(run):
    status, lines = run([row("ours", 3.0)], [row("ours", 3.0, batch=8), row("ours", 3.0, size=(64, 64))])
    assert (status, lines[0]) == (1, "FAILED  ours, 480x640, batch 1 was not run (3.00, then)")


def test_a_row_that_could_not_be_measured_fails_with_its_reason(run):
    status, lines = run([row("ours", 3.0)], [row("ours", None, why="no such device")])
    assert status == 1
    assert lines[0] == "FAILED  ours, 480x640, batch 1 was not measured: no such device (3.00, then)"


def test_ratios_to_different_rows_are_not_compared(run):
    status, lines = run([row("ours", 3.0)], [row("ours", 3.0, reference="uniface")])
    assert status == 1
    assert (
        lines[0].strip() == "FAILED  ours, 480x640, batch 1 is compared with uniface, batch 1, not with eager, batch 1"
    )


def test_a_new_row_and_one_that_never_ran_do_not_fail(run):
    status, lines = run([row("old", 1.0), row("never", None, why="no")], [row("old", 1.0), row("new", 0.1)])
    assert (status, len(lines)) == (0, 1)


def test_the_stored_ratios_are_all_there_with_what_they_were_taken_on(script):
    stored = json.loads(script.STORED.read_text(encoding="utf-8"))
    assert {"cpu", "date", "load"} <= stored["machine"].keys()
    assert all(row["ratio"] > 0 for row in stored["ratios"].values())
    assert [problem for _, problem, _ in script.verdicts(stored["ratios"], stored["ratios"])] == [""] * len(
        stored["ratios"]
    )
