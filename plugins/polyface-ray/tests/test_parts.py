"""Plans of parts, and the folder they are written to."""

from __future__ import annotations

import json

import pytest

import polyface
from polyface.errors import ConfigError
from polyface.results import Item

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install polyface-ray")

import pyarrow.parquet as pq  # noqa: E402

from polyface_ray.parts import Folder, Part, describe_run, plan_images, plan_tables  # noqa: E402
from polyface_ray.storage import StoredFile  # noqa: E402

CONFIG = polyface.Config()


def files(*names):
    return [Item(name=name, image=StoredFile(f"s3://b/{name}")) for name in names]


def tables(*locations, size):
    return [(part.file, part.groups) for part in plan_tables(map(str, locations), size, "image", CONFIG).parts]


def test_images_are_parted_in_order():
    plan = plan_images(files(*"abcde"), 2)
    assert [part.name for part in plan.parts] == [f"part-{number:06}.parquet" for number in range(3)]
    assert [[name for name, _, _ in part.images] for part in plan.parts] == [["a", "b"], ["c", "d"], ["e"]]
    assert plan.images == 5


def test_a_plan_is_told_by_what_is_in_it():
    assert plan_images(files(*"ab"), 1).sha256 == plan_images(files(*"ab"), 1).sha256
    assert len({plan_images(files(*names), size).sha256 for names, size in (("ab", 1), ("ba", 1), ("ab", 2))}) == 3


def test_a_part_is_text_whatever_its_names():
    part = Part(name="part-000000.parquet", images=[["\udcff.jpg", "/a/\udcff.jpg", ""]], groups=[])
    text = pa.array([part.to_json()])[0].as_py()
    assert Part.from_json(text) == part


def test_row_groups_stay_whole_and_those_without_rows_are_left_out(tmp_path):
    pq.write_table(pa.table({"image": ["a"] * 10}), tmp_path / "a.parquet", row_group_size=4)
    pq.write_table(pa.table({"image": ["a"] * 3}), tmp_path / "b.parquet")
    (tmp_path / "_hidden.parquet").write_bytes(b"no Parquet")
    one, two = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    assert tables(tmp_path, size=8) == [(one, [0, 1]), (one, [2]), (two, [0])]
    assert tables(one, size=1) == [(one, [0]), (one, [1]), (one, [2])]
    assert tables(f"file://{two}", size=100) == [(f"file://{two}", [0])]


@pytest.mark.parametrize(
    ("name", "said"),
    [("none", "There is no"), ("empty", "has no files"), ("text.parquet", "cannot be read as Parquet")],
)
def test_what_is_no_parquet_is_refused(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ConfigError, match=said):
        tables(tmp_path / name, size=1)


def record(**settings):
    plan = plan_images(files("a"), 1)
    return describe_run(CONFIG.replace(**settings), plan, column=None, size=1)


def test_a_folder_begins_with_a_record_and_then_wants_to_be_resumed(tmp_path):
    folder = Folder(f"file://{tmp_path}/out")
    assert folder.begin(record(), resume=False) == []
    assert json.loads((tmp_path / "out/_polyface.json").read_text()) == record()
    assert folder.begin(record(threads=4, batch_size=1), resume=False) == []
    folder.write("part-000000.parquet", pa.table({"error": [None, "damaged"]}))
    with pytest.raises(ConfigError, match="has parts already: 1") as caught:
        folder.begin(record(), resume=False)
    assert caught.value.fix.settings == {"resume": True}
    assert folder.begin(record(), resume=True) == ["part-000000.parquet"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write("part-000000.parquet", pa.table({"error": ["damaged"]}))
    with pytest.raises(ConfigError, match="has parts of something else"):
        folder.begin(record(), resume=True)
    (tmp_path / "_polyface.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        folder.begin(record(), resume=True)


def test_a_folder_of_another_run_says_what_differs(tmp_path):
    folder = Folder(str(tmp_path))
    folder.begin(record(), resume=False)
    with pytest.raises(ConfigError, match="parts of another run") as caught:
        folder.begin(record(max_side=640), resume=True)
    assert caught.value.why == ("max_side was null, and is 640",)


def test_a_folder_counts_what_failed_by_the_ends_of_its_files(tmp_path):
    folder = Folder(str(tmp_path))
    errors = pa.table({"faces": [[{"score": 0.5}], [], []], "error": pa.array([None, "damaged", None], pa.string())})
    folder.write("part-000000.parquet", errors)
    folder.write("part-000001.parquet", errors.slice(0, 1))
    assert folder.count_failed(folder.list_parts()) == (4, 1)
    (tmp_path / "part-000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"part-000001\.parquet' cannot be read as Parquet"):
        folder.count_failed(folder.list_parts())


def test_what_is_left_of_a_part_that_was_cut_off_is_no_part_and_goes_in_the_end(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write("part-000000.parquet", pa.table({"error": ["damaged"]}))
    (tmp_path / "_writing-0").write_bytes(b"PAR1")
    assert folder.list_parts() == ["part-000000.parquet"]
    folder.end()
    assert [path.name for path in tmp_path.iterdir()] == ["part-000000.parquet"]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written to"):
        Folder(str(tmp_path / "out")).begin(record(), resume=False)
