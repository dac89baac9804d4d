"""A real cluster on this machine, and small images of the repository's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import polyface
from polyface.plugins.records import DetectorSpec

CPUS = 2

DETECTOR = "retinaface-mobilenet025"


@pytest.fixture(scope="session")
def photos(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 2,000 images of 96x96 pixels: crops, about every third with a face, and one that is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    images = []
    for name in ("astronaut", "grace_hopper", "collage"):
        with Image.open(pytestconfig.rootpath / f"examples/{name}.jpg") as image:
            images.append(image.convert("RGB"))
    for number in range(2000):
        image = images[number % 3]
        x, y = number * 37 % (image.width - 192), number * 53 % (image.height - 192)
        image.crop((x, y, x + 192, y + 192)).resize((96, 96)).save(folder / f"{number:04}.jpg")
    bad = folder / "0777.jpg"
    bad.write_bytes(bad.read_bytes()[:900])
    return folder


@pytest.fixture(scope="session")
def config() -> Any:
    """The settings of a small detector, which is there."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install polyface-onnxruntime[cpu]")
    from polyface.plugins.manager import installed_plugins

    if DETECTOR not in installed_plugins().by_name(DetectorSpec):
        pytest.skip(f"needs {DETECTOR}: pip install polyface-retinaface")
    return polyface.Config(detector=DETECTOR, backend="onnxruntime", device="cpu")


@pytest.fixture(scope="session")
def rows(photos: Path, config: Any) -> dict[str, dict[str, Any]]:
    """What the stream on this machine finds in the photos, as polyface-parquet writes it, by the image's path."""
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install polyface-ray")
    import pyarrow.parquet as pq

    from polyface.storage.places import Place
    from polyface_parquet.writer import Parquet

    place = photos.parent / "single.parquet"
    with polyface.create_detector(config=config) as detector, Place(place, folder=False) as opened:
        writer = Parquet(opened)
        for result in detector.stream(sorted(photos.iterdir())):
            writer.write(result)
        writer.close()
    return {row["image"]: row for row in pq.read_table(place).to_pylist()}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Ray, with a cluster of two CPUs; processes of its own, on the loopback interface."""
    pytest.importorskip("ray", reason="needs Ray: pip install polyface-ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a key below the user's home
        from polyface_ray.runtime import data, ray

        context = ray.init(
            num_cpus=CPUS,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200_000_000,
            _node_ip_address="127.0.0.2",  # of 127.0.0.1 Ray makes the address that others see
        )
        data.DataContext.get_current().enable_progress_bars = False
        patch.setenv("RAY_ADDRESS", context.address_info["address"])
        yield ray
        ray.shutdown()


@pytest.fixture
def kill_actor() -> Callable[[], int]:
    """Kill a process of this cluster's that holds a detector, as a machine that runs out of memory would."""

    def kill() -> int:
        for process in descendants(os.getpid()):
            if "Finder)" in read(f"/proc/{process}/cmdline"):
                os.kill(process, signal.SIGKILL)
                return process
        raise AssertionError("no actor is there")

    return kill


def descendants(root: int) -> Iterator[int]:
    """Yield the processes that a process started, and those that these started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        fields = read(status).rpartition(")")[2].split()
        if fields:
            parents[int(status.parent.name)] = int(fields[1])
    found = {root}
    while new := {process for process, parent in parents.items() if parent in found} - found:
        found |= new
    yield from sorted(found - {root})


def read(path: Path | str) -> str:
    """What Linux says of a process, or nothing where that is gone."""
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""
