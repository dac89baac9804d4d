"""A large input in parts, each of which becomes one Parquet file: what is done is known by the files that are there."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from attrs import frozen
from pyarrow import fs

from polyface._version import __version__
from polyface.errors import ConfigError, Fix, quoted
from polyface.results import Item
from polyface.settings.config import Config
from polyface_ray.storage import FAILURES, StoredFile, is_uri, list_files, open_location
from polyface_ray.tables import Batch, check_columns, read_table

ROWS = 256
"""Images whose results become a table together."""

RECORD = "_polyface.json"
"""What the parts of a folder are of. Readers of Parquet pass over names that begin so."""

AT_WILL = ("artifacts", "batch_size", "runs", "threads", "trim", "workers")
"""Settings that may change between two runs: they change no result."""

READERS = 16
"""Files whose ends are read at the same time."""


@frozen(kw_only=True)
class Part:
    """Images that become one file: image files, or row groups of a Parquet file.

    Args:
        name: of the file that it becomes.
        images: of each its name, its path or URI, and what is wrong with it, or an empty text.
        file: the path or URI of a Parquet file.
        groups: the numbers of its row groups.
    """

    name: str
    images: Sequence[Sequence[str]] = ()
    file: str = ""
    groups: Sequence[int] = ()

    def to_json(self) -> str:
        """Return it as text; names that are not UTF-8 are escaped in it, so that it may be a column of Arrow's."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Return what :meth:`to_json` wrote."""
        return cls(**json.loads(text))


@frozen(kw_only=True)
class Plan:
    """The parts of an input.

    Args:
        parts: in order.
        images: how many there are in all of them.
    """

    parts: Sequence[Part]
    images: int

    @functools.cached_property
    def sha256(self) -> str:
        """What tells this input, and how it is parted, from others."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part.to_json().encode())
        return digest.hexdigest()


def plan_images(items: Iterable[Item], size: int) -> Plan:
    """Return the parts of image files, so many in each.

    Raises:
        ConfigError: an item is no file that another machine could open, such as a member of an archive.
    """
    parts: list[Part] = []
    images: list[tuple[str, str, str]] = []
    for item in items:
        images.append((item.name, _locate(item), item.problem))
        if len(images) == size:
            parts.append(Part(name=_name(len(parts)), images=images))
            images = []
    if images:
        parts.append(Part(name=_name(len(parts)), images=images))
    return Plan(parts=parts, images=sum(len(part.images) for part in parts))


def plan_tables(locations: Iterable[str], size: int, column: str, config: Config) -> Plan:
    """Return the parts of Parquet files: neighbouring row groups of one file, of so many rows together at most.

    A row group is never divided.

    Args:
        locations: paths or URIs of files, and of folders of files ``*.parquet``.
        size: rows of a part, unless one row group has more.
        column: of the images.
        config: the settings, which add columns to the results.

    Raises:
        ConfigError: there is no such file, it is not Parquet, or has no such column.
    """
    files = [file for location in locations for file in _find_tables(location)]
    with ThreadPoolExecutor(READERS) as pool:
        groups = [*pool.map(lambda file: _count_rows(file, column, config), files)]
    parts: list[Part] = []
    for file, counts in zip(files, groups, strict=True):
        together: list[int] = []
        rows = 0
        for number, count in enumerate(counts):
            if together and rows + count > size:
                parts.append(Part(name=_name(len(parts)), file=file, groups=together))
                together, rows = [], 0
            if count:
                together.append(number)
                rows += count
        if together:
            parts.append(Part(name=_name(len(parts)), file=file, groups=together))
    return Plan(parts=parts, images=sum(map(sum, groups)))


def read_part(part: Part, column: str | None, config: Config) -> Iterator[Batch]:
    """Yield the images of a part, a few hundred at a time.

    Raises:
        ConfigError: its file is gone, or cannot be read.
    """
    if column is None:
        for start in range(0, len(part.images), ROWS):
            few = part.images[start : start + ROWS]
            yield Batch(items=map(_as_item, few), rows=len(few), others=pa.table({}))
        return
    try:
        system, path = open_location(part.file)
        with system.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(ROWS, row_groups=[*part.groups]):
                yield read_table(pa.Table.from_batches([batch]), column, config)
    except FAILURES as error:
        raise _unreadable(part.file, error) from error


class Folder:
    """The folder of the parts.

    A part is written aside and then given its name, so that what has one is whole, whatever ended the run.

    Args:
        location: its path or URI.

    Raises:
        ConfigError: it cannot be opened.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._system, self._path = open_location(location)

    def write(self, name: str, table: pa.Table) -> None:
        """Write a part; of two that write the same at once, either's stays, whole."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._write(name, sink.getvalue())

    def list_parts(self) -> list[str]:
        """Return the names of the parts that are there, sorted."""
        return [name for name in self._list() if name.startswith("part-")]

    def count_failed(self, names: Sequence[str]) -> tuple[int, int]:
        """Return how many images parts have, and how many of them failed, by what stands at the files' ends.

        Raises:
            ConfigError: one of them is damaged.
        """
        with ThreadPoolExecutor(READERS) as pool:
            counts = [*pool.map(self._count, names)]
        return sum(images for images, _ in counts), sum(failed for _, failed in counts)

    def begin(self, record: Mapping[str, Any], *, resume: bool) -> list[str]:
        """Return the parts that are done, and write down what all of them are of.

        Args:
            record: what decides about the parts' contents.
            resume: whether parts may be there.

        Raises:
            ConfigError: there are parts already, or they are of other settings or another input.
        """
        try:
            self._system.create_dir(self._path, recursive=True)
            there = self.list_parts()
            before = self._read_record()
            if before is None and not there:
                self._write(RECORD, json.dumps(record, indent=1).encode())
        except FAILURES as error:
            raise ConfigError(f"{quoted(self.location)} cannot be written to.", why=[str(error)]) from error
        if before is None and there:
            why = [f"{there[0]} is there, and no {RECORD}, which would say what it is of"]
            raise ConfigError(f"{quoted(self.location)} has parts of something else.", why=why, fix=_OTHER)
        if before is not None and (differences := _compare(before, record)):
            raise ConfigError(
                f"{quoted(self.location)} has parts of another run.",
                why=differences,
                fix=Fix("repeat what that run was given") | _OTHER,
            )
        if there and not resume:
            raise ConfigError(
                f"{quoted(self.location)} has parts already: {len(there)}.",
                fix=Fix("to go on with them", settings={"resume": True}) | _OTHER,
            )
        return there

    def end(self) -> None:
        """Remove what is left of parts whose actors died while they wrote them."""
        for name in self._list():
            if name.startswith(_ASIDE):
                self._system.delete_file(f"{self._path}/{name}")

    def _write(self, name: str, data: Any) -> None:
        aside = f"{self._path}/{_ASIDE}{uuid.uuid4().hex}"
        with self._system.open_output_stream(aside) as stream:
            stream.write(data)
        self._system.move(aside, f"{self._path}/{name}")

    def _list(self) -> list[str]:
        return [name for name in list_files(self._system, self._path) if "/" not in name]

    def _count(self, name: str) -> tuple[int, int]:
        try:
            with self._system.open_input_file(f"{self._path}/{name}") as stream:
                about = pq.read_metadata(stream)
        except FAILURES as error:
            raise _unreadable(f"{self.location}/{name}", error) from error
        number = about.schema.names.index("error")  # the leaves of `faces` are numbered, too
        errors = [about.row_group(group).column(number).statistics.null_count for group in range(about.num_row_groups)]
        return about.num_rows, about.num_rows - sum(errors)

    def _read_record(self) -> dict[str, Any] | None:
        try:
            with self._system.open_input_stream(f"{self._path}/{RECORD}") as stream:
                record: dict[str, Any] = json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ConfigError(f"{self.location}/{RECORD} is damaged.", why=[str(error)], fix=_OTHER) from error
        return record


_ASIDE = "_writing-"
_OTHER = "give another --output"


def describe_run(config: Config, plan: Plan, *, column: str | None, size: int) -> dict[str, Any]:
    """Return what decides about the parts' contents, as JSON has it."""
    table = {name: value for name, value in config.as_dict().items() if name not in AT_WILL}
    record = {
        "version": __version__,
        **table,
        "column": column,
        "part_size": size,
        "images": plan.images,
        "input": plan.sha256,
    }
    plain: dict[str, Any] = json.loads(json.dumps(record, default=dict))
    return plain


def _compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {json.dumps(before.get(name))}, and is {json.dumps(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _name(number: int) -> str:
    return f"part-{number:06}.parquet"


def _locate(item: Item) -> str:
    """The path or URI of an image on any machine; empty where there is none."""
    if isinstance(item.image, StoredFile):
        return item.image.location
    if isinstance(item.image, Path):
        return os.path.abspath(item.image)  # noqa: PTH100 - links stay
    if item.problem:
        return ""
    raise ConfigError(
        f"{quoted(item.name)} is no file by itself, which another machine could open.",
        why=["images, folders of images, lists of them, and Parquet files are read"],
        fix=Fix(f"unpack it first, or use polyface detect for {quoted(item.name)}"),
    )


def _as_item(image: Sequence[str]) -> Item:
    name, location, problem = image
    return Item(name=name, image=StoredFile(location) if is_uri(location) else location, problem=problem)


def _find_tables(location: str) -> list[str]:
    """The Parquet files that a location names: itself, or those below a folder."""
    try:
        system, path = open_location(location)
        kind = system.get_file_info(path).type
        names = list_files(system, path) if kind == fs.FileType.Directory else []
    except FAILURES as error:
        raise _unreadable(location, error) from error
    if kind == fs.FileType.NotFound:
        raise ConfigError(f"There is no {quoted(location)}.")
    if kind == fs.FileType.File:
        return [location if is_uri(location) else path]
    root = (location if is_uri(location) else path).rstrip("/")
    found = [name for name in names if name.endswith(".parquet") and not _is_hidden(name)]
    if not found:
        raise ConfigError(f"The folder {quoted(location)} has no files *.parquet.")
    return [f"{root}/{name}" for name in found]


def _is_hidden(name: str) -> bool:
    """Whether readers of Parquet pass over a file."""
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _count_rows(file: str, column: str, config: Config) -> list[int]:
    """The rows of each row group."""
    try:
        system, path = open_location(file)
        with system.open_input_file(path) as stream:
            about = pq.read_metadata(stream)
            check_columns(about.schema.to_arrow_schema(), column, config)
            return [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    except FAILURES as error:
        raise _unreadable(file, error) from error


def _unreadable(file: str, error: Exception) -> ConfigError:
    return ConfigError(f"{quoted(file)} cannot be read as Parquet.", why=[str(error)])
