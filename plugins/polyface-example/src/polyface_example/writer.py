"""A writer: how many faces each image has, as text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from polyface.writers.document import Document, was_examined


class CountsWriter(Document):
    """A line for each image: the number of its faces, or ``failed``, and its name as JSON writes it.

    The base keeps the results in a journal beside the file, so that a run that was killed is gone on with.
    """

    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the file; the lines are those of ``faces.jsonl``."""
        # Replace: write what you want of each. "faces" is a list of "box" (xyxy, in pixels), "score" and "landmarks".
        for line in lines:
            count = len(line["faces"]) if was_examined(line) else "failed"
            stream.write(f"{count} {json.dumps(line['image'])}\n".encode())
