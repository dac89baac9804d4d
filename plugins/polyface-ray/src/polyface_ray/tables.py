"""Tables of images in, tables of faces out: what Ray, and any other framework that knows Arrow, can call."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from attrs import frozen

from polyface.errors import ConfigError, quoted
from polyface.pipeline.timing import STAGES
from polyface.results import Item, Result
from polyface_parquet.writer import FACE, IMAGE, convert_face, convert_image
from polyface_ray.storage import StoredFile, is_uri

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector
    from polyface.settings.config import Config

NAME = "path"
"""The column of text, beside that of the images, that says what they are called."""


@frozen(kw_only=True)
class Batch:
    """Images that are one table of results.

    Args:
        items: the images.
        rows: how many there are.
        others: the columns that the results keep, so many rows.
    """

    items: Iterable[Item]
    rows: int
    others: pa.Table


def make_schema(config: Config) -> pa.Schema:
    """Return the columns of results: those of polyface-parquet, with what the settings add to them."""
    columns = {**IMAGE, "faces": pa.list_(pa.struct([*FACE.items()]))}
    if config.damaged == "read":
        columns["damaged"] = pa.bool_()
    if config.timing:
        columns["timing"] = pa.struct([(stage, pa.float64()) for stage in STAGES])
    return pa.schema([*columns.items(), ("error", pa.string())])


def find(detector: FaceDetector, batches: Iterable[Batch]) -> Iterator[pa.Table]:
    """Yield a table for each batch, in order: what :func:`make_schema` says, and the other columns of the batch.

    What is wrong with one image is the ``error`` of its row. Batches are taken ahead, as
    :meth:`polyface.FaceDetector.stream` takes images.

    Raises:
        PolyfaceError: as the stream does.
    """
    schema = make_schema(detector.config)
    waiting: deque[Batch] = deque()

    def take() -> Iterator[Item]:
        for batch in batches:
            waiting.append(batch)
            yield from batch.items

    rows: list[dict[str, Any]] = []
    with closing(detector.stream(take())) as results:
        for result in results:
            while len(rows) == waiting[0].rows:
                yield _join(waiting.popleft(), rows, schema)
                rows = []
            rows.append(_convert(result, schema))
    for batch in waiting:  # the last, and those without rows
        yield _join(batch, rows, schema)
        rows = []


def read_table(table: pa.Table, column: str, config: Config) -> Batch:
    """Return the images of a column, and the columns beside it.

    Args:
        table: of images, a row each.
        column: pixels (RGB uint8 ``(H, W, 3)`` each), the bytes of image files, or paths or URIs. A structure with
            ``bytes`` and ``path``, as Hugging Face writes it, is bytes, or where these are missing a path.
        config: the settings, which add columns to the results.

    Raises:
        ConfigError: there is no such column, it holds no images, or another has the name of one of the results.
    """
    check_columns(table.schema, column, config)
    images = table[column]
    kind = images.type
    others = table.drop_columns([column])
    named = NAME in others.column_names and _is_text(others.schema.field(NAME).type)
    names = others[NAME] if named else None

    def items() -> Iterator[Item]:
        for number, value in enumerate(images):
            image = _as_image(value)
            path = image if isinstance(image, str) else None
            if isinstance(kind, pa.StructType) and "path" in kind.names:
                path = value["path"].as_py() if value.is_valid else None
            if path is None and names is not None:
                path = names[number].as_py()
            yield Item(
                name=path or "",
                image=StoredFile(image) if isinstance(image, str) and is_uri(image) else image,
                problem="the row has no image" if image is None else "",
            )

    return Batch(items=items(), rows=table.num_rows, others=others)


def check_columns(schema: pa.Schema, column: str, config: Config) -> None:
    """Check that a column is there and may hold images, and that no other has the name of one of the results.

    Raises:
        ConfigError: it is not so.
    """
    if column not in schema.names:
        raise ConfigError(
            f"There is no column {quoted(column)}.",
            why=[f"the columns are {', '.join(map(quoted, schema.names)) or 'none'}"],
            fix="give as column the one that has the images: pixels, the bytes of files, or paths",
        )
    kind = schema.field(column).type
    if not _is_image(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise ConfigError(
            f"The column {quoted(column)} holds {kind}, which is no image.",
            fix="give pixels (a NumPy array (H, W, 3) of uint8 each), the bytes of files, or paths",
        )
    taken = [name for name in schema.names if name != column and name in make_schema(config).names]
    if taken:
        raise ConfigError(
            f"The results have columns of their own that are called {', '.join(map(quoted, taken))}.",
            fix=f"dataset.rename_columns({{{taken[0]!r}: {'my_' + taken[0]!r}}}), or leave them out",
        )


def _is_image(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.StructType):
        return "bytes" in kind.names
    # Tensors, those of Ray among them, are extensions of Arrow.
    return isinstance(kind, pa.BaseExtensionType) or _is_text(kind) or _is_bytes(kind) or pa.types.is_null(kind)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _as_image(value: Any) -> Any:
    """What the detector takes: an array, bytes or a path; ``None`` where the value is missing."""
    if not value.is_valid:
        return None
    if isinstance(value, pa.StructScalar) and "bytes" in value:
        found = value["bytes"].as_py()
        return found if found is not None or "path" not in value else value["path"].as_py()
    # Ray's own tensors are arrays as they are, those of Arrow have a way to become some.
    return value.to_numpy() if hasattr(value, "to_numpy") else value.as_py()


def _convert(result: Result, schema: pa.Schema) -> dict[str, Any]:
    """A result as the columns take it."""
    line = result.to_dict()
    further = {name: line.get(name) for name in ("damaged", "timing") if name in schema.names}
    row = {**convert_image(line), **further, "faces": [convert_face(face) for face in line["faces"]]}
    if row["error"] and isinstance(result.item and result.item.image, StoredFile):
        row["error"] = row["error"].removeprefix("the open file ")  # its name stands beside it
    return {**row, "image": row["image"] or None}  # pixels and bytes have no name


def _join(batch: Batch, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    table = pa.Table.from_pylist(rows, schema)
    for name, column in zip(batch.others.column_names, batch.others.columns, strict=True):
        table = table.append_column(batch.others.schema.field(name), column)
    return table
