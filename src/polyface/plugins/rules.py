"""What the fields of records must be: attrs validators, each of which fails with one sentence of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from polyface.errors import ContractError, quoted

Validator: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]

REF = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
FILE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[^/\\:][^\\:]*")
ENDING = re.compile(r"(\.[a-z0-9]+)+")

LEAST, MOST = 2.0**-149, (2 - 2.0**-23) * 2.0**127
"""The smallest and the largest number above 0 that float32 has."""


def rule(wanted: str, holds: Callable[[Any], bool]) -> Validator:
    """Return a validator of a value that ``holds``; ``wanted`` ends the sentence "... must be"."""

    def check(record: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not holds(value):
            raise ContractError(f"{type(record).__name__}.{attribute.name} must be {wanted}, not {quoted(value)}.")

    return check


def is_a(*types: type) -> Validator:
    """Return a validator of a value of one of these types; a bool is no int."""
    return rule(
        "a " + " or a ".join(t.__name__ for t in types).replace("a NoneType", "None"),
        lambda value: isinstance(value, types) and not (isinstance(value, bool) and bool not in types),
    )


def matches(wanted: str, pattern: str | re.Pattern[str]) -> Validator:
    """Return a validator of a text that the whole pattern matches."""
    return rule(wanted, lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None)


def one_of(*values: str) -> Validator:
    """Return a validator of one of these texts."""
    return rule(" or ".join(map(repr, values)), lambda value: value in values)


def between(low: float, high: float) -> Validator:
    """Return a validator of a number, ``low`` and ``high`` among them."""
    return rule(
        f"a number from {low:g} to {high:g}",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
    )


def tuple_of(*types: type) -> Validator:
    """Return a validator of a tuple of these types, which may be empty."""
    return rule(
        "a sequence of " + " or ".join(t.__name__ for t in types),
        lambda value: isinstance(value, tuple) and all(isinstance(item, types) for item in value),
    )


def as_tuple(value: Any) -> Any:
    """Return a tuple of what was given; strings and non-iterables pass unchanged, for the validator to refuse."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else value


def as_pairs(value: Any) -> Any:
    """Return a tuple of tuples of what was given, likewise."""
    pairs = as_tuple(value)
    return tuple(map(as_tuple, pairs)) if isinstance(pairs, tuple) else pairs


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and [*map(type, value)] == [str, str]


def freeze(value: Any) -> Any:
    """Return a value with tuples in the place of lists, at every depth, so that it hashes."""
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value


def as_table(table: Any) -> Any:
    """Return a table as a tuple of pairs."""
    return freeze(list(table.items()) if isinstance(table, Mapping) else table)


def is_table(pairs: Any) -> bool:
    """Whether these are pairs of an identifier and a plain value."""
    try:
        return is_plain(pairs) and all(name.isidentifier() for name, _ in pairs)
    except (AttributeError, TypeError, ValueError):
        return False


def is_plain(value: object) -> bool:
    """Whether a value is a bool, a finite number, a text, or a tuple of such."""
    return all(map(is_plain, value)) if isinstance(value, tuple) else isinstance(value, bool | str) or is_number(value)


def tuples(*types: type, rule: Validator | None = None) -> Any:
    """Return the field of a sequence of these types, empty where nothing is said; of ``rule``, where it has its own."""
    return attrs.field(default=(), converter=as_tuple, validator=rule or tuple_of(*types))


def are_three_numbers(value: object) -> bool:
    """Whether it is a tuple of three finite numbers."""
    return isinstance(value, tuple) and len(value) == 3 and all(map(is_number, value))


def is_number(value: object) -> bool:
    """Whether a value is an int or float that is finite in float32 as well, and 0 there only where it is 0."""
    return type(value) in (int, float) and (value == 0 or LEAST <= abs(value) <= MOST)  # type: ignore[arg-type]


name = matches("lower-case letters, digits, '.', '_' or '-', starting with a letter or digit", r"[a-z0-9][a-z0-9._-]*")
text = rule("a line of text", lambda value: isinstance(value, str) and bool(value.strip()) and "\n" not in value)
endings = rule(
    "a sequence of endings such as '.csv', in lower case",
    lambda value: isinstance(value, tuple) and all(isinstance(end, str) and ENDING.fullmatch(end) for end in value),
)
sha256 = matches("64 lower-case hexadecimal digits", r"[0-9a-f]{64}")
pairs = rule(
    "None, or pairs of names",
    lambda value: value is None or (isinstance(value, tuple) and all(map(_is_pair, value))),
)
count = rule("a whole number of at least 1", lambda value: type(value) is int and value >= 1)
number = rule("a finite number", is_number)
three_numbers = rule("three finite numbers", are_three_numbers)
