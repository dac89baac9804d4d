"""``benchmarks/regression.py`` on made-up numbers: what of a benchmark makes it fail, and what does not."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("regression")


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
def run(script, tmp_path, capsys, monkeypatch):
    """Compare rows with stored ones; the exit status and the lines come back. The processor is made up, too."""
    monkeypatch.setattr(script, "CPUINFO", tmp_path / "cpuinfo")

    def run(stored, fresh, *, flags="flags : avx2 avx512_bf16"):
        script.CPUINFO.write_text(f"model name : Made Up bf16x CPU\n{flags}\n")
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


@pytest.mark.parametrize("label", ["polyface openvino bf16", "retinaface-mobilenet025 on openvino:bf16@cpu"])
def test_a_precision_that_the_processor_lacks_is_not_compared_and_says_so(run, label):
    refused = row(label, None, why="OpenVINO cannot run in 'bf16' on this CPU.")
    status, lines = run([row("ours", 3.0), row(label, 7.0)], [row("ours", 3.0), refused], flags="flags : avx2 avx512f")
    assert (status, len(lines)) == (0, 2)
    assert lines[0] == f"-       {label}, 480x640, batch 1 is not comparable: this processor has no bf16 (7.00, then)"


@pytest.mark.parametrize("flags", ["flags : avx512_bf16", "flags : amx_bf16 amx_tile", "Features : fp asimd bf16"])
def test_a_precision_that_the_processor_has_may_not_be_refused(run, flags):
    status, lines = run([row("ours bf16", 7.0)], [row("ours bf16", None, why="no")], flags=flags)
    assert (status, lines[0]) == (1, "FAILED  ours bf16, 480x640, batch 1 was not measured: no (7.00, then)")


class TestMeasuredHere:
    """Without a file, the script measures by itself; what it measures is made up here."""

    @pytest.fixture
    def run(self, script, tmp_path, capsys, monkeypatch):
        def run(*measurements):
            reports = [{"machine": {}, "rounds": 3, "rows": rows} for rows in measurements]
            monkeypatch.setattr(script, "measured", lambda: reports.pop(0))
            stored = tmp_path / "ratios.json"
            ratios = script.ratios({"rows": [row("ours", 3.0), row("theirs", 1.2)]})
            stored.write_text(json.dumps({"ratios": ratios}))
            status = script.main(["--stored", str(stored)])
            return status, len(reports), capsys.readouterr().out.splitlines()

        return run

    def test_what_is_fine_at_once_is_not_measured_again(self, run):
        status, left, _ = run([row("ours", 3.0), row("theirs", 1.2)], [])
        assert (status, left) == (0, 1)

    def test_what_fails_once_and_not_again_is_fine(self, run):
        status, left, lines = run(
            [row("ours", 1.0), row("theirs", 1.2)],
            [row("ours", 3.0), row("theirs", 0.1)],  # only what failed is looked at again
        )
        assert (status, left) == (0, 0)
        assert lines[0].startswith("FAILED  ours")
        assert lines[3].startswith("once more")
        assert lines[5:] == ["ok      ours, 480x640, batch 1 (3.00, now 3.00)"]

    def test_what_fails_twice_fails(self, run):
        slow = [row("ours", 1.0), row("theirs", 1.2)]
        status, left, lines = run(slow, slow)
        assert (status, left) == (1, 0)
        assert lines[-1].startswith("1 failed; if that is meant")


def test_what_is_measured_here_is_what_is_stored(script):
    """Every row that regression.py has peers.py run, at its size, and no other."""
    stored = json.loads(script.STORED.read_text(encoding="utf-8"))["ratios"]
    names = script.RUN[: script.RUN.index("--size")]
    size = script.RUN[script.RUN.index("--size") + 1]
    assert list(stored) == [f"{name}, {size}, batch 1" for name in names]
