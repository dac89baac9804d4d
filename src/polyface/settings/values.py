"""Kinds of values: each takes what Python or TOML has, or what was typed, and returns the value in its own type.

What is no such value is a :class:`ValueError` that says what is wanted.
"""

from __future__ import annotations

import math
import operator
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from polyface.errors import ConfigError, quoted
from polyface.machine.formats import known

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

LARGEST_COUNT = 65_536
"""No setting that counts pixels of a side or images, or scales them, may be more: an input of that side fills any
memory."""


def text(value: object) -> str:
    """A text, or a path as one."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        raise ValueError("text that is not empty")
    return value


def texts(value: object) -> tuple[str, ...]:
    """One text or path, or several; as it is typed, one, since a path may hold whatever would part them."""
    try:
        return tuple(map(text, value if isinstance(value, list | tuple) else [value]))
    except ValueError:
        raise ValueError("text that is not empty, or a list of such texts") from None


def flag(value: object) -> bool:
    """A flag; as text, one of :data:`TRUE` and :data:`FALSE`."""
    if isinstance(value, str) and value.lower() in (*TRUE, *FALSE):
        return value.lower() in TRUE
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def read_flag(variable: str, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether a variable says yes; unset or empty it says no.

    Raises:
        ConfigError: it says neither yes nor no.
    """
    given = (os.environ if environ is None else environ).get(variable, "").strip()
    try:
        return bool(given) and flag(given)
    except ValueError as error:
        what = f"{variable} must be {error}, not {quoted(given)} (environment)."
        raise ConfigError(what, fix=f"{variable}=1, or unset it") from None


def whole(least: int, most: int) -> Callable[[Any], int]:
    """Return what reads a whole number from ``least`` to ``most``."""

    def parse(value: Any) -> int:
        typed = isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value)
        try:
            number = None if isinstance(value, bool) else operator.index(int(value) if typed else value)
        except TypeError:
            number = None
        if number is None or not least <= number <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return number

    return parse


count = whole(1, LARGEST_COUNT)


def size(value: object) -> tuple[int, int]:
    """A height and a width; as text, ``"480x640"``."""
    sides = value.lower().split("x") if isinstance(value, str) else value
    try:
        height, width = map(count, sides if isinstance(sides, list | tuple) else ())
    except ValueError:
        wanted = f"a height and a width from 1 to {LARGEST_COUNT}, such as [480, 640] or 480x640"
        raise ValueError(wanted) from None
    return height, width


def one_of(*choices: str) -> Callable[[object], str]:
    """Return what reads one of these texts."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(" or ".join(repr(choice) for choice in choices))
        return value

    return parse


def _number(value: Any) -> float:
    """A number, or nan for what is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def fraction(most: float = 1.0) -> Callable[[object], float]:
    """Return what reads a number from 0 to ``most``."""

    def parse(value: object) -> float:
        number = _number(value)
        if not 0 <= number <= most:
            raise ValueError(f"a number from 0 to {most:g}")
        return number

    return parse


def scales(value: object) -> tuple[float, ...]:
    """One scale or several; as text, ``"0.5,1,2"``."""
    parts = value.split(",") if isinstance(value, str) else value
    numbers = tuple(map(_number, parts if isinstance(parts, list | tuple) else [parts]))
    if not numbers or not all(0 < number <= LARGEST_COUNT for number in numbers):
        raise ValueError(f"numbers greater than 0 and at most {LARGEST_COUNT}, such as [0.5, 1, 2] or 0.5,1,2")
    return numbers


def formats(value: object) -> tuple[str, ...]:
    """Names of Pillow's formats; as text, ``"EPS,SGI"``."""
    wanted = "names of formats that Pillow reads, such as ['SGI', 'ICO'] or SGI,ICO"
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(name, str) for name in parts):
        raise ValueError(wanted)
    names = tuple(dict.fromkeys(name.strip().upper() for name in parts if name.strip()))
    if names and not known().issuperset(names):
        raise ValueError(wanted)
    return names


def table(value: object) -> Mapping[str, Any]:
    """A table of scalars, lists of numbers, and lists of such lists, which become tuples.

    As text, ``"streams=2,spin=false,mean=[104,117,123]"``, each value read as TOML where it can be.
    """
    wanted = "a table of names and values, as in streams = 2 or mean = [104, 117, 123]"
    if isinstance(value, str):
        pairs = [part.partition("=") for part in _split(value) if part.strip()]
        if not all(equals and name.strip() for name, equals, _ in pairs):
            raise ValueError("of the form name=value,name=value")
        value = {name.strip(): _typed(text.strip()) for name, _, text in pairs}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(wanted)
    found = {name: part if isinstance(part, str) else _numbers(part) for name, part in value.items()}
    if None in found.values():
        raise ValueError(wanted)
    return MappingProxyType(found)


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for piece in re.split(r"([,\[\]])", text):
        depth += {"[": 1, "]": -1}.get(piece, 0)
        if piece == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _typed(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, a number of 5,000 digits, brackets in brackets
        return text
    return text if _numbers(value) is None else value


def _numbers(value: Any, depth: int = 2) -> Any:
    """A bool, a number of at most 64 bits, or a tuple of such, or a tuple of such tuples; ``None`` for all else."""
    if isinstance(value, list | tuple) and depth:
        parts = tuple(_numbers(part, depth - 1) for part in value)
        return None if None in parts else parts
    if not isinstance(value, bool | int | float) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return None
    return value
