"""``polyface ray detect``, on a cluster of several processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from polyface.cli import group

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

SETTINGS = ["--backend", "onnxruntime", "--device", "cpu"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, cluster, config):
    monkeypatch.chdir(tmp_path)


def call(*args):
    return CliRunner().invoke(group, ["ray", "detect", *map(str, args), *SETTINGS])


def read():
    return pq.read_table("out").to_pylist()


def names():
    return sorted(path.name for path in Path("out").iterdir())


def test_writes_the_rows_of_one_machine_in_parts_and_in_order(photos, rows, tmp_path):
    done = call(photos, "--output", "out", "--part-size", 300)
    assert done.exit_code == 1, done.output  # one image is cut short
    assert "0777.jpg: cannot be decoded: it is cut short" in done.output
    assert "7 parts" in done.output
    assert names() == ["_polyface.json", *(f"part-{number:06}.parquet" for number in range(7))]
    assert pq.read_metadata("out/part-000006.parquet").num_rows == 200
    assert read() == list(rows.values())


def test_goes_on_with_the_parts_that_are_missing_and_does_no_other_again(photos, rows, tmp_path):
    call(photos, "--output", "out", "--part-size", 500)
    before = {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out/part-000001.parquet").unlink()
    (tmp_path / "out/_writing-0").write_bytes(b"PAR1 half of a part")
    done = call(photos, "--output", "out", "--part-size", 500, "--resume")
    assert done.exit_code == 1, done.output
    after = {path.name: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == ["part-000001.parquet"]
    assert read() == list(rows.values())


def test_goes_on_after_it_was_killed(photos, rows, tmp_path):
    command = [sys.executable, "-m", "polyface", "ray", "detect", str(photos), "--output", "out", "--part-size", "50"]
    process = subprocess.Popen([*command, *SETTINGS, "--actors", "1"], stderr=subprocess.DEVNULL)
    first = tmp_path / "out/part-000003.parquet"
    while not first.exists() and process.poll() is None:
        threading.Event().wait(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    there = {path: path.stat().st_ino for path in (tmp_path / "out").glob("part-*") if path != first}
    assert 3 <= len(there) < 40
    done = call(photos, "--output", "out", "--part-size", 50, "--resume")
    assert done.exit_code == 1, done.output
    assert {path: path.stat().st_ino for path in there} == there
    assert read() == list(rows.values())


def test_an_actor_that_is_killed_is_replaced_and_its_part_done_anew(photos, rows, tmp_path, kill_actor):
    killed, over = [], threading.Event()

    def kill():
        while not over.wait(0.01):
            if (tmp_path / "out/part-000002.parquet").exists():
                killed.append(kill_actor())
                return

    killer = threading.Thread(target=kill)
    killer.start()
    done = call(photos, "--output", "out", "--part-size", 50)
    over.set()
    killer.join()
    assert killed
    assert done.exit_code == 1, done.output
    assert read() == list(rows.values())


def test_an_interrupted_run_counts_the_parts_that_are_there(photos, monkeypatch):
    def run(*_, **__):
        Path("out/part-000001.parquet").touch()  # an actor has written it, and not told yet
        raise KeyboardInterrupt

    monkeypatch.setattr("polyface_ray.command._run", run)
    done = call(*(photos / f"{number:04}.jpg" for number in range(3)), "--output", "out", "--part-size", 1)
    assert (done.exit_code, "interrupted after 1 of 3 parts; --resume goes on" in done.output) == (130, True)


def test_when_all_is_done_nothing_is_done_again(photos, tmp_path):
    some = [photos / f"{number:04}.jpg" for number in range(3)]
    assert call(*some, "--output", "out").exit_code == 0
    done = call(*some, "--output", "out", "--resume")
    assert (done.exit_code, "0 parts" in done.output, "done before" in done.output) == (0, True, True)


def test_reads_parquet_and_keeps_its_other_columns(photos, rows, tmp_path):
    paths = [str(photos / f"{number:04}.jpg") for number in range(20)]
    files = [(photos / path).read_bytes() for path in paths]
    (tmp_path / "in").mkdir()
    table = pa.table({"path": paths, "jpeg": files, "label": [*range(20)]})
    pq.write_table(table, "in/a.parquet", row_group_size=6)
    pq.write_table(table.slice(0, 0), "in/empty.parquet")
    done = call("in", "--output", "out", "--column", "jpeg", "--part-size", 12)
    assert done.exit_code == 0, done.output
    assert [pq.read_metadata(f"out/part-{number:06}.parquet").num_rows for number in range(2)] == [12, 8]
    found = read()
    assert [row.pop("label") for row in found] == [*range(20)]
    assert [row.pop("path") for row in found] == paths
    assert found == [rows[path] for path in paths]


def test_reads_lists_and_uris(photos, rows, tmp_path):
    (tmp_path / "list.txt").write_text(f"{photos}/0000.jpg\nfile://{photos}/0001.jpg\nnone.jpg\n")
    done = call("@list.txt", "--output", f"file://{tmp_path}/out")
    assert done.exit_code == 1
    one, two, none = read()
    assert one == rows[f"{photos}/0000.jpg"]
    assert two == {**rows[f"{photos}/0001.jpg"], "image": f"file://{photos}/0001.jpg"}
    assert (none["image"], none["error"]) == ("none.jpg", "there is no such file or folder")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threads", "3"], "No machine of the cluster has 3 CPUs"),
        (["--actors", "3"], "room for 1 to 2 actors"),
        (["--actors", "3"], "To fix it: --actors 2; or: lower --threads"),
        (["--detector", "nothing"], "no detector named 'nothing'"),
        (["--column", "jpeg"], "cannot be read as Parquet"),
        (["--part-size", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_is_refused(photos, arguments, said):
    done = call(photos / "0000.jpg", "--output", "out", *arguments)
    assert (done.exit_code, said in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    "error", [ValueError("Invalid address format: x"), ConnectionError("Failed to connect to Ray cluster at x")]
)
def test_an_address_without_a_cluster_is_refused(photos, monkeypatch, error):
    """Ray gives up on one that does not answer after minutes only."""
    from polyface_ray.command import ray

    def fail(**_):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    done = call(photos / "0000.jpg", "--output", "out", "--address", "x")
    assert (done.exit_code, "There is no Ray cluster at 'x'" in done.output) == (2, True), done.output
    assert str(error) in done.output


def test_an_address_at_which_nothing_listens_is_refused_before_ray_asks_for_minutes(photos, monkeypatch):
    from polyface_ray.command import ray

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", None)
    done = call(photos / "0000.jpg", "--output", "out", "--address", f"ray://{address}")
    assert done.exit_code == 2
    assert f"There is no Ray cluster at 'ray://{address}'" in done.output
    assert "refused" in done.output


def test_an_error_that_only_an_actor_sees_is_shown_as_it_is(tmp_path):
    pq.write_table(pa.table({"jpeg": [b""]}), "a.parquet", compression="none")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:20] = bytes(16)  # its first page; its end, which the plan is made from, is whole
    (tmp_path / "a.parquet").write_bytes(data)
    done = call("a.parquet", "--output", "out", "--column", "jpeg")
    assert done.exit_code == 2
    assert "part-000000.parquet cannot be made" in done.output
    assert "a.parquet' cannot be read as Parquet" in done.output
    assert names() == ["_polyface.json"]


def test_a_column_of_numbers_is_refused(tmp_path):
    pq.write_table(pa.table({"n": [1, 2]}), "n.parquet")
    done = call("n.parquet", "--output", "out", "--column", "n")
    assert (done.exit_code, "The column 'n' holds int64, which is no image" in done.output) == (2, True)


def test_parquet_without_a_column_is_asked_for_one(tmp_path):
    done = call("a.parquet", "--output", "out")
    assert (done.exit_code, "which of its columns has the images?" in done.output) == (2, True)


def test_an_archive_is_refused_since_its_members_are_no_files(photos, tmp_path):
    import tarfile

    with tarfile.open("a.tar", "w") as archive:
        archive.add(photos / "0000.jpg", "0000.jpg")
    done = call("a.tar", "--output", "out")
    assert (done.exit_code, "is no file by itself" in done.output) == (2, True), done.output


def test_parts_of_other_settings_are_not_mixed(photos):
    image = photos / "0000.jpg"
    assert call(image, "--output", "out").exit_code == 0
    again = call(image, "--output", "out")
    assert (again.exit_code, "has parts already: 1" in again.output, "--resume" in again.output) == (2, True, True)
    other = call(image, "--output", "out", "--resume", "--score-threshold", "0.9")
    assert (other.exit_code, "score_threshold was null, and is 0.9" in other.output) == (2, True)
    more = call(image, photos / "0001.jpg", "--output", "out", "--resume")
    assert (more.exit_code, "images was 1, and is 2" in more.output) == (2, True)
    threads = call(image, "--output", "out", "--resume", "--threads", "2")
    assert threads.exit_code == 0, threads.output


def test_the_record_says_what_the_parts_are_of(photos):
    call(photos / "0000.jpg", "--output", "out")
    record = json.loads(Path("out/_polyface.json").read_text(encoding="utf-8"))
    assert (record["backend"], record["images"], record["part_size"]) == ("onnxruntime", 1, 1000)
