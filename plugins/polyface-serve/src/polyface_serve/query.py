"""What a request may set in its address: an allow-list for each path, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from polyface.errors import ConfigError, Fix, nearest, quoted
from polyface.plugins.records import OptionSpec, OptionValue
from polyface.settings.values import flag
from polyface.writers.plugin import ANONYMIZED, CROPS

MODEL = OptionSpec(name="model", type="str", help="One of /v1/models; by default the first.")
FACES = (
    MODEL,
    OptionSpec(
        name="score_threshold",
        type="float",
        help="The least score of a face, from the model's own on.",
        minimum=0,
        maximum=1,
    ),
    OptionSpec(
        name="min_size",
        type="float",
        help="The least longer side of a face's box, in pixels.",
        minimum=0,
        maximum=65_536,
    ),
    OptionSpec(name="max_faces", type="int", help="At most so many faces, the best.", minimum=1, maximum=65_536),
)
DETECT = (
    *FACES,
    OptionSpec(name="timing", type="bool", help="Say the seconds of each stage.", default=False),
)
ANONYMIZE = (
    *FACES[:2],
    OptionSpec(
        name="how",
        type="str",
        help="What becomes of each face.",
        default="blur",
        choices=("blur", "pixelate", "fill"),  # a replacement would be a file of the server's
    ),
    *(option for option in ANONYMIZED.options if option.name in ("shape", "grow")),
)
CROP = (*FACES, *CROPS.options)

_PARSE: Mapping[str, Callable[[str], OptionValue]] = {
    "bool": flag,
    "int": lambda text: int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) else text,
    "float": float,
    "str": str,
}


def read_query(path: str, declared: Iterable[OptionSpec], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return every query setting of a path that is given, or has a default.

    Args:
        path: for messages.
        declared: those that it has.
        given: names and texts, as they stand in the address.

    Raises:
        ConfigError: there is no such setting, it is given twice, or its value is wrong.
    """
    options = {option.name: option for option in declared}
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in options:
            raise ConfigError(
                f"{path} has no query setting {quoted(name)}{nearest(name, options) or '.'}",
                why=[f"it has {', '.join(options)}; all else is set where the server is started"],
                fix=Fix("leave out", names=(name,)),
            )
        if name in found:
            raise ConfigError(f"The query setting {name} is given twice.", fix=Fix("give one", names=(name,)))
        found[name] = _read(options[name], text)
    return {name: option.default for name, option in options.items() if option.default is not None} | found


def _read(option: OptionSpec, text: str) -> OptionValue:
    try:
        value = _PARSE[option.type](text)
    except ValueError:
        value = text
    if problem := option.problem(value):
        raise ConfigError(f"The query setting {option.name} {problem}.", why=[option.help], fix=_remedy(option))
    return value


def _remedy(option: OptionSpec) -> Fix:
    if option.default is not None:
        return Fix(settings={option.name: option.default})
    return Fix("change or leave out", names=(option.name,))
