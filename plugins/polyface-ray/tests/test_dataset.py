"""Faces of a Ray dataset, on a cluster of several processes."""

from __future__ import annotations

import os
import types

import numpy as np
import pytest

import polyface
import polyface_ray
from polyface.errors import ConfigError, UnknownNameError

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def data(cluster):
    from polyface_ray.runtime import data

    return data


@pytest.fixture(scope="module")
def files(data, photos):
    return data.from_items([{"path": str(path), "number": int(path.stem)} for path in sorted(photos.iterdir())])


def plain(row):
    """A row of Ray's as Parquet has it."""
    return {name: value for name, value in row.items() if name != "number"}


def test_ray_is_kept_from_telling_that_it_is_used(cluster):
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_rows_are_those_of_one_machine_and_keep_the_other_columns(files, config, rows):
    found = polyface_ray.detect(files, config, "path").take_all()
    assert len(found) == 2000
    assert {row["image"]: plain(row) for row in found} == rows
    assert all(row["image"].endswith(f"{row['number']:04}.jpg") for row in found)


def test_a_corrupt_image_is_a_row_with_its_error(rows):
    [bad] = [row for row in rows.values() if row["error"]]
    assert bad["image"].endswith("0777.jpg")
    assert (bad["error"], bad["faces"]) == ("cannot be decoded: it is cut short: its last pixels are missing", [])


def test_an_actor_that_is_killed_is_replaced_and_no_row_is_lost_or_doubled(files, config, rows, kill_actor):
    many = files.repartition(40)
    found, killed = [], 0
    for row in polyface_ray.detect(many, config, "path", concurrency=1, rows=50).iter_rows():
        found.append(row)
        killed = killed or kill_actor()
    assert killed
    assert len(found) == 2000
    assert {row["image"]: plain(row) for row in found} == rows


def test_the_bytes_of_files_are_read_and_named_by_the_path_beside_them(data, config, photos, rows):
    paths = [str(photos / f"{number:04}.jpg") for number in (0, 1, 777)]
    found = polyface_ray.detect(data.read_binary_files(paths, include_paths=True), config, "bytes").take_all()
    assert sorted(row.pop("path") for row in found) == paths
    assert {row["image"]: row for row in found} == {path: rows[path] for path in paths}


def test_pixels_are_read_whether_they_are_of_one_size_or_of_several(data, config, photos, rows, tmp_path):
    paths = [str(photos / f"{number:04}.jpg") for number in range(4)]
    one_size = polyface_ray.detect(data.read_images(paths), config).take_all()
    assert sorted(len(row["faces"]) for row in one_size) == sorted(len(rows[path]["faces"]) for path in paths)
    assert {(row["image"], row["width"], row["height"]) for row in one_size} == {(None, 96, 96)}
    images = [{"image": np.zeros((height, 40, 3), np.uint8)} for height in (30, 50)]
    several = polyface_ray.detect(data.from_items(images), config).take_all()
    assert sorted((row["width"], row["height"], row["error"]) for row in several) == [(40, 30, None), (40, 50, None)]


def test_a_row_without_an_image_says_so(data, config):
    [row] = polyface_ray.detect(data.from_items([{"path": None}]), config, "path").take_all()
    assert (row["error"], row["width"]) == ("the row has no image", None)


def test_has_the_columns_that_settings_add(data, config, photos):
    wanting = config.replace(damaged="read", timing=True)
    [row] = polyface_ray.detect(data.from_items([{"path": str(photos / "0777.jpg")}]), wanting, "path").take_all()
    assert (row["error"], row["damaged"]) == (None, True)
    assert row["timing"]["network"] > 0


def test_a_column_that_is_not_there_is_refused_with_those_that_are(files, config):
    with pytest.raises(ConfigError, match="There is no column 'image'") as caught:
        polyface_ray.detect(files, config)
    assert caught.value.why == ("the columns are 'path', 'number'",)


def test_a_column_with_the_name_of_a_result_is_refused(data, config):
    with pytest.raises(ConfigError, match="columns of their own that are called 'error'") as caught:
        polyface_ray.detect(data.from_items([{"path": "a.jpg", "error": ""}]), config, "path")
    assert "dataset.rename_columns({'error': 'my_error'})" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"threads": 3}, "No machine of the cluster has 3 CPUs"),
        ({"device": "cuda"}, "No machine of the cluster has 1 CPU and 1 GPU"),
        ({"device": "cuda:1"}, "Ray chooses the GPU of each actor"),
    ],
)
def test_what_no_machine_has_is_refused(files, config, settings, what):
    with pytest.raises(ConfigError, match=what):
        polyface_ray.detect(files, config.replace(**settings), "path")


def test_more_actors_than_there_is_room_for_are_refused(files, config):
    with pytest.raises(ConfigError, match="room for 1 to 2 actors of 1 CPU, not for 3"):
        polyface_ray.detect(files, config, "path", concurrency=3)


@pytest.mark.parametrize("rows", [0, -1])
def test_images_together_are_one_at_least(files, config, rows):
    with pytest.raises(ConfigError, match=f"rows must be 1 at least, not {rows}"):
        polyface_ray.detect(files, config, "path", rows=rows)


def test_an_actor_that_leaves_no_cpu_to_read_is_refused_unless_all_is_read(data, files, config, photos):
    wide = config.replace(threads=2)
    with pytest.raises(ConfigError, match=r"An actor of 2 CPUs leaves no CPU .* to the tasks that read"):
        polyface_ray.detect(data.read_binary_files(str(photos)), wide, "bytes")
    assert len(polyface_ray.detect(files.limit(20).materialize(), wide, "path").take_all()) == 20


def test_a_detector_that_is_not_there_is_refused_before_anything_runs(files):
    with pytest.raises(UnknownNameError, match="no detector named 'nothing'"):
        polyface_ray.detect(files, polyface.Config(detector="nothing"), "path")


def test_threads_of_the_detector_are_the_cpus_of_the_actor(cluster, config):
    from polyface_ray.dataset import fit_actors

    one, two = fit_actors(config), fit_actors(config.replace(threads=2, device="auto"))
    assert (one.cpus, one.config.threads, one.gpus, one.room) == (1, 1, 0, 2)
    assert (two.cpus, two.config.threads, two.gpus, two.room) == (2, 2, 0, 1)
    assert two.config.device == "cpu"
    assert fit_actors(config.replace(runs=2)).cpus == 2


def test_there_is_room_where_a_machine_has_all_that_an_actor_wants(cluster, config, monkeypatch):
    from polyface_ray import dataset

    machines = [{"CPU": 16.0, "GPU": 3.0}, {"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    nodes = [{"Resources": machine, "Alive": True} for machine in machines]
    nodes.append({"Resources": {"CPU": 64.0, "GPU": 8.0}, "Alive": False})
    monkeypatch.setattr(dataset, "ray", types.SimpleNamespace(nodes=lambda: nodes))
    on_gpus = dataset.fit_actors(config.replace(device="cuda", threads=8))
    assert (on_gpus.room, on_gpus.options) == (2 + 0 + 0 + 1, {"num_cpus": 8, "num_gpus": 1})
    assert dataset.fit_actors(config.replace(threads=8)).room == 2 + 8 + 0 + 1
