"""Tables of images in, tables of faces out, without a cluster: as Spark's mapInArrow would call it."""

from __future__ import annotations

import numpy as np
import pytest

import polyface
from polyface.errors import ConfigError

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install polyface-ray")

from polyface_ray.tables import find, make_schema, read_table  # noqa: E402

DEFAULTS = polyface.Config()


def items(table, column="image"):
    return [*read_table(table, column, DEFAULTS).items]


def test_paths_are_names_and_uris_are_opened_by_pyarrow():
    one, two, none = items(pa.table({"image": ["a.jpg", "s3://bucket/b.jpg", None]}))
    assert (one.name, one.image) == ("a.jpg", "a.jpg")
    assert (two.name, two.image.location) == ("s3://bucket/b.jpg", "s3://bucket/b.jpg")
    assert (none.name, none.problem) == ("", "the row has no image")


def test_bytes_are_named_by_the_column_path():
    [named] = items(pa.table({"image": [b"jpeg"], "path": ["a.jpg"]}))
    [unnamed] = items(pa.table({"image": [b"jpeg"], "path": [7]}))
    assert (named.image, named.name, unnamed.name) == (b"jpeg", "a.jpg", "")


def test_of_a_structure_with_bytes_and_path_the_bytes_come_first():
    rows = [{"bytes": b"jpeg", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None]
    one, two, none = items(pa.table({"image": rows}))
    assert (one.image, one.name) == (b"jpeg", "a.jpg")
    assert (two.image, two.name) == ("b.jpg", "b.jpg")
    assert none.problem == "the row has no image"


def test_texts_that_arrow_stores_once_are_texts():
    [one, two] = items(pa.table({"image": pa.array(["a.jpg", "a.jpg"]).dictionary_encode()}))
    assert (one.image, two.image) == ("a.jpg", "a.jpg")


def test_tensors_are_pixels():
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    found = np.stack([item.image for item in items(pa.table({"image": column}))])
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("values", [[1], [1.5], [[1, 2]], [{"x": 1}]])
def test_what_is_no_image_is_refused(values):
    with pytest.raises(ConfigError, match="which is no image"):
        read_table(pa.table({"image": values}), "image", DEFAULTS)


def test_a_column_that_a_setting_adds_is_taken():
    table = pa.table({"image": ["a.jpg"], "timing": [1]})
    assert read_table(table, "image", DEFAULTS).others.column_names == ["timing"]
    with pytest.raises(ConfigError, match="called 'timing'"):
        read_table(table, "image", DEFAULTS.replace(timing=True))


def test_gives_a_table_for_each_in_order_with_its_other_columns(config, photos):
    paths = [str(photos / f"{number:04}.jpg") for number in range(5)]
    whole = pa.table({"image": paths, "n": [*range(5)]})
    tables = [whole.slice(start, length) for start, length in ((0, 0), (0, 3), (3, 2))]
    with polyface.create_detector(config=config) as detector:
        batches = (read_table(table, "image", detector.config) for table in [*tables, tables[0]])
        found = [*find(detector, batches)]
    assert [table["n"].to_pylist() for table in found] == [[], [0, 1, 2], [3, 4], []]
    assert [name for table in found for name in table["image"].to_pylist()] == paths
    assert {table.schema for table in found} == {make_schema(config).append(pa.field("n", pa.int64()))}
