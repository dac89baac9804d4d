"""Records of settings: each field that :func:`setting` makes is a key of files, a variable, a keyword and an option."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import attrs
from attrs import field, frozen

from polyface.errors import ConfigError, nearest, quoted


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    wanted: str = "",
    *,
    path_in: Callable[[str], str] = lambda _: "",
    guard: str = "",
    costs: bool = False,
    repeat: bool = False,
    between: str = ",",
) -> Any:
    """Return a field that is a setting; the docstring of its record describes it, for options as well.

    Args:
        default: its value where nobody sets it; ``None`` is not parsed.
        parse: one of :mod:`polyface.settings.values`.
        wanted: what to write behind the option; empty for a flag.
        path_in: returns what of a text names a file or folder; in a file of settings it is meant from where that lies.
        guard: why no file that was merely found may set it.
        costs: a file that sets it may lift the bound on the memory of a run.
        repeat: the option may be given several times.
        between: what stands between several values in a text.
    """
    about = {"parse": parse, "wanted": wanted, "path_in": path_in}
    return field(
        default=default, metadata={**about, "guard": guard, "costs": costs, "repeat": repeat, "between": between}
    )


@frozen(kw_only=True)
class SettingsRecord:
    """Settings that belong together, checked.

    Args:
        sources: where each value that is not a default came from.

    Raises:
        ConfigError: a value is of the wrong type or out of range.
    """

    owner: ClassVar[str]
    """Whose settings they are, for messages."""

    sources: Mapping[str, str] = field(factory=dict, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for key in settings(type(self)):
            value = getattr(self, key.name)
            if value is not None or key.default is not None:
                origin = self.sources.get(key.name, "keyword")
                try:
                    object.__setattr__(self, key.name, key.metadata["parse"](value))
                except ValueError as error:
                    raise ConfigError(f"{key.name} must be {error}, not {quoted(value)} ({origin}).") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self.as_dict(), sources=dict(self.sources)), ()

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name, as plain values: a record that is made of them is equal."""
        return {key.name: _as_json(getattr(self, key.name)) for key in settings(type(self))}


def settings(*records: type[SettingsRecord]) -> tuple[attrs.Attribute[Any], ...]:
    """Return the settings of records, as attrs describes them; ``metadata`` holds what :func:`setting` took."""
    return tuple(key for record in records for key in attrs.fields(record) if "parse" in key.metadata)


def describe(record: type[SettingsRecord]) -> dict[str, str]:
    """Return what the docstring of a record says of each setting; empty where Python runs without docstrings."""
    texts = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", inspect.getdoc(record) or "", re.MULTILINE))
    return {key.name: " ".join(texts.get(key.name, "").split()) for key in settings(record)}


def as_text(key: attrs.Attribute[Any] | None, value: Any) -> str:
    """Return a setting's value as options and the environment write it; in a table no text may hold a comma."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={part_as_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return str("," if key is None else key.metadata["between"]).join(as_text(None, part) for part in value)
    text = str(value)
    return text.lower() if isinstance(value, bool) else text.removesuffix(".0") if isinstance(value, float) else text


def part_as_text(value: Any) -> str:
    """Return a value of a table as TOML writes it, a text without its quotes.

    A float stays one: what reads it tells the types of a table by how they are written.
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(part_as_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_names(
    names: Iterable[str], own: Iterable[type[SettingsRecord]], others: Iterable[type[SettingsRecord]], origin: str
) -> None:
    """Refuse what is no setting of ``own``; of one of ``others``, say whose it is.

    Raises:
        ConfigError: there is no such setting, or it is that of another record.
    """
    known = [key.name for key in settings(*own)]
    for name in names:
        if name in known:
            continue
        for other in others:
            if name in [key.name for key in settings(other)]:
                whose = " or ".join(record.owner for record in own)
                raise ConfigError(
                    f"{name} belongs to {other.owner}, not to {whose} ({origin}).", fix=f"leave {name} out"
                )
        why = [f"the settings: {', '.join(known)}"]
        raise ConfigError(f"There is no setting {quoted(name)} ({origin}){nearest(name, known) or '.'}", why=why)


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_json(part) for name, part in value.items()}
    return list(map(_as_json, value)) if isinstance(value, tuple) else value
