"""The settings of a job: what becomes of the results. A detector has no part in them."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from polyface.settings import values
from polyface.settings.paths import split_output
from polyface.settings.record import SettingsRecord, setting


@frozen(kw_only=True)
class Job(SettingsRecord):
    """The settings of a job, such as ``polyface detect``, checked.

    Args:
        output: folder for the drawn images and faces.jsonl, or a file by its ending.
        json: write JSON to standard output, and nothing else there.
        sources: where each value that is not a default came from.

    Raises:
        ConfigError: a value is of the wrong type.
    """

    owner: ClassVar[str] = "a job, such as polyface detect"

    output: tuple[str, ...] = setting(
        (), values.texts, "DIR|FILE|WRITER:PATH", path_in=lambda output: split_output(output)[1], repeat=True
    )
    json: bool = setting(False, values.flag)
