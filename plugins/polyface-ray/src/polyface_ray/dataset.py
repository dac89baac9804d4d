"""Faces of a Ray dataset, and how many actors find them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from attrs import frozen

from polyface.building import resolve
from polyface.errors import ConfigError, Fix
from polyface.plugins.manager import installed_plugins
from polyface.settings.config import Config
from polyface.settings.record import settings
from polyface_ray.actors import Finder
from polyface_ray.runtime import data, ray
from polyface_ray.tables import check_columns

if TYPE_CHECKING:
    from ray.data import Dataset

ROWS = 128
"""Images that an actor is given together, unless it is told otherwise."""


def detect(
    dataset: Dataset,
    config: Config,
    column: str = "image",
    *,
    concurrency: int | None = None,
    rows: int = ROWS,
) -> Dataset:
    """Return a dataset with a row of faces for each row of images; nothing is done before it is asked for.

    Each actor has one detector. On a processor it has as many CPUs as the setting ``threads`` says, by default one for
    each of its ``runs``, which are 1, and computes on so many threads. With a ``device`` such as ``"cuda"`` it has one
    GPU as well, and reads images on so many threads. ``device="auto"`` is the processor: what computes must not depend
    on where an image comes to.

    Rows have the columns ``image`` (the path, where that is known), ``width``, ``height``, ``truncated``, ``faces``
    and ``error`` of polyface-parquet, ``damaged`` and ``timing`` where the settings ask for them, and all columns of
    ``dataset`` but that of the images. An image that cannot be read is a row with its ``error``. An actor that dies is
    replaced, and what it was doing is done again.

    Args:
        dataset: a row for each image.
        config: the detector's settings: ``polyface.load_config(detector=...)``. Plugins, weights and files must be on
            every machine, in the same places.
        column: of the images: pixels (RGB uint8 ``(H, W, 3)``, as ``ray.data.read_images`` gives them), the bytes of
            files (as ``read_binary_files`` gives them), or paths and URIs, which the actors open.
        concurrency: how many actors there are at most; by default as many as there is room for. Ray begins with one,
            and adds others as images come.
        rows: how many images an actor is given together; they lie in memory together.

    Raises:
        ConfigError: there is no such column (where that is known only once it is read, Ray raises an error that says
            so), ``rows`` is below 1, or there is no room for such an actor or so many, with a CPU left
            that reads.
        PolyfaceError: the settings name something that is not there: as :func:`polyface.create_detector`.
    """
    if rows < 1:
        raise ConfigError(f"rows must be 1 at least, not {rows}.", fix=Fix(settings={"rows": ROWS}))
    schema = getattr(dataset.schema(fetch_if_missing=False), "base_schema", None)
    if isinstance(schema, pa.Schema):  # nothing is known of it before it is read, or it is one of pandas
        check_columns(schema, column, config)
    actors = fit_actors(config)
    most = actors.room if concurrency is None else actors.check(concurrency)
    if not isinstance(dataset, data.dataset.MaterializedDataset):
        actors.check_rest()
    return dataset.map_batches(
        Finder,
        fn_constructor_kwargs={"config": actors.config, "column": column},
        batch_size=rows,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=1, max_size=most),
        **actors.options,
    )


@frozen(kw_only=True)
class Actors:
    """What each actor has, and how many the cluster has room for.

    Args:
        config: the settings of its detector.
        cpus: of each.
        gpus: of each, 0 or 1.
        room: how many there can be.
    """

    config: Config
    cpus: int
    gpus: int
    room: int

    @property
    def options(self) -> dict[str, Any]:
        """What ``map_batches`` takes."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}

    def check(self, count: int, name: str = "concurrency") -> int:
        """Return a number of actors.

        Args:
            count: the number.
            name: of the setting that it is of, for messages.

        Raises:
            ConfigError: there is no room for them, and Ray would wait for ever.
        """
        if not 1 <= count <= self.room:
            raise ConfigError(
                f"There is room for 1 to {self.room} actors of {self.wants}, not for {count}.",
                why=[f"the cluster has {_describe(ray.cluster_resources())}"],
                fix=Fix(settings={name: self.room}) | Fix("lower", names=("threads",)),
            )
        return count

    def check_rest(self) -> None:
        """Check that beside one actor there is a CPU for the tasks that read the images.

        Raises:
            ConfigError: there is none, and Ray would wait for ever.
        """
        if ray.cluster_resources().get("CPU", 0) < self.cpus + 1:
            raise ConfigError(
                f"An actor of {self.wants} leaves no CPU of the cluster to the tasks that read the dataset.",
                why=[f"the cluster has {_describe(ray.cluster_resources())}"],
                fix=Fix("lower", names=("threads",)) | "read it first: dataset.materialize()",
            )

    @property
    def wants(self) -> str:
        """What an actor has, in words."""
        return _describe({"CPU": self.cpus, "GPU": self.gpus})


def fit_actors(config: Config) -> Actors:
    """Return what actors get for these settings on the cluster that this process is connected to.

    Raises:
        ConfigError: no machine of it has so much, or the device has a number.
        PolyfaceError: the settings name something that is not there.
    """
    device, _, number = config.device.partition(":")
    if number:
        what = "Ray chooses the GPU of each actor; its number cannot be set."
        raise ConfigError(what, why=[f"device is {config.device}"], fix=Fix(settings={"device": device}))
    device = "cpu" if device == "auto" else device
    cpus, gpus = config.threads or config.runs or 1, int(device != "cpu")
    config = _anchor(config).replace(device=device, threads=cpus)
    resolve(config, installed_plugins())  # what is missing is said here and now, not by every actor
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    room = sum(min(int(node.get(kind, 0) // count) for kind, count in wanted.items()) for node in nodes)
    actors = Actors(config=config, cpus=cpus, gpus=gpus, room=room)
    if not room:
        raise ConfigError(
            f"No machine of the cluster has {actors.wants}, which an actor is to have.",
            why=[f"one has {_describe(node)}" for node in nodes],
            fix=Fix("lower", names=("threads",)) | Fix("start Ray with --num-cpus and --num-gpus"),
        )
    return actors


def _anchor(config: Config) -> Config:
    """The settings with whole paths: an actor's current folder is another."""
    named = {key.name: getattr(config, key.name) for key in settings(Config)}
    paths = {
        key.name: os.path.abspath(named[key.name])  # noqa: PTH100 - links stay
        for key in settings(Config)
        if isinstance(named[key.name], str) and key.metadata["path_in"](named[key.name])
    }
    return config.replace(**paths)


def _describe(resources: dict[str, float]) -> str:
    counts = [(int(resources.get(kind, 0)), kind) for kind in ("CPU", "GPU")]
    return " and ".join(f"{count} {kind}{'' if count == 1 else 's'}" for count, kind in counts if count) or "no CPU"
