"""What an actor does: it holds one detector, and finds the faces of the tables or the parts it is given."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from polyface.building import build_for_many
from polyface.errors import PolyfaceError
from polyface.plugins.manager import installed_plugins
from polyface.settings.config import Config
from polyface_ray.parts import Folder, Part, read_part
from polyface_ray.tables import find, read_table

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector

TOLD = 5
"""Of so many failed images a part tells the names and the reasons."""


class Finder:
    """Finds the faces of tables of images.

    Args:
        config: of the detector.
        column: of the images.
    """

    def __init__(self, config: Config, column: str) -> None:
        self._detector = build_for_many(config, installed_plugins())
        self._column = column

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return a row for each row; see :func:`polyface_ray.tables.find`."""
        [found] = find(self._detector, [read_table(table, self._column, self._detector.config)])
        return found


class PartFinder:
    """Finds the faces of parts, and writes each as a file.

    Args:
        config: of the detector.
        column: of the images in Parquet files; ``None`` where parts are of image files.
        output: the folder of the parts.
    """

    def __init__(self, config: Config, column: str | None, output: str) -> None:
        self._config = config
        self._column = column
        self._output = output

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return what became of each part: a row of :data:`DONE`.

        An error of polyface's is told there: of an exception Ray keeps no more than the text.
        """
        rows = []
        for part in map(Part.from_json, batch["part"].to_pylist()):
            try:
                rows.append(self._do(part))
            except PolyfaceError as error:
                rows.append({"part": part.name, "problem": str(error)})
        return pa.Table.from_pylist(rows, DONE)

    @functools.cached_property
    def _detector(self) -> FaceDetector:
        return build_for_many(self._config, installed_plugins())

    @functools.cached_property
    def _folder(self) -> Folder:
        return Folder(self._output)

    def _do(self, part: Part) -> dict[str, Any]:
        table = pa.concat_tables(find(self._detector, read_part(part, self._column, self._config)))
        self._folder.write(part.name, table)
        failed = table.filter(pc.is_valid(table["error"])).select(["image", "error"])
        return {
            "part": part.name,
            "images": table.num_rows,
            "faces": pc.sum(pc.list_value_length(table["faces"])).as_py() or 0,
            "failed": failed.num_rows,
            "told": [[row["image"] or part.name, row["error"]] for row in failed.slice(0, TOLD).to_pylist()],
        }


DONE = pa.schema(
    [
        ("part", pa.string()),
        ("images", pa.int64()),
        ("faces", pa.int64()),
        ("failed", pa.int64()),
        ("told", pa.list_(pa.list_(pa.string()))),
        ("problem", pa.string()),
    ]
)
"""What an actor tells of a part: ``told`` has the names and the reasons of the first images that failed."""
