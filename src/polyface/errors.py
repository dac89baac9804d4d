"""The exceptions polyface raises.

Every message says what happened, why (one line a reason) and, where there is a remedy, what to do: the settings to
change, or the command. The classes are plain and pickle, so an error crosses a process boundary intact.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from attrs import field, frozen

LONGEST_PART = 2000
"""At most so many characters of each part of a message are kept."""


def keywords(table: Mapping[str, Any]) -> str:
    """Return settings as Python's keywords: ``device="cpu", infer_size=(480, 640)``."""
    return ", ".join(f"{name}={_literal(value)}" for name, value in table.items())


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_literal(name)}: {_literal(part)}' for name, part in value.items())}}}"
    if isinstance(value, str) and value.isprintable():
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def _as_dict(table: Mapping[str, Any]) -> dict[str, Any]:
    return dict(table)


@frozen
class Fix:
    """What to do about an error, as data, so that whoever shows it writes it in their own form.

    ``str(fix)`` names settings as Python's keywords, the command line as its options. ``one | other`` are
    alternatives, each once. A fix without content is false.

    Args:
        words: what to do, or what the settings or the command are for.
        names: settings to change, any one of them, to a value that the reader must choose; they complete the words.
        settings: settings by name, with the values that mend it together.
        command: a line for a shell.
        alternatives: what to do instead.
    """

    words: str = ""
    names: tuple[str, ...] = field(default=(), kw_only=True)
    settings: Mapping[str, Any] = field(factory=dict, converter=_as_dict, kw_only=True, hash=False)
    command: str = field(default="", kw_only=True)
    alternatives: tuple[Fix, ...] = field(default=(), kw_only=True)

    def __bool__(self) -> bool:
        return bool(self.words or self.names or self.settings or self.command)

    def __or__(self, other: Fix | str) -> Fix:
        each = [one for one in (*self._each, *as_fix(other)._each) if one] or [NO_FIX]
        first, *rest = dict.fromkeys(each)
        return attrs.evolve(first, alternatives=tuple(rest))

    def __str__(self) -> str:
        return self.text()

    def text(self, name: Callable[[str], str] = str, table: Callable[[Mapping[str, Any]], str] = keywords) -> str:
        """Return it in words; ``name`` writes the name of a setting, ``table`` settings with their values."""
        named = [name(one) for one in self.names]
        either = filter(None, (", ".join(named[:-1]), *named[-1:]))
        words = " ".join(filter(None, (self.words, " or ".join(either))))
        whole = ": ".join(filter(None, (words, table(self.settings), self.command)))
        return shortened(
            "; or: ".join([whole, *(other.text(name, table) for other in self.alternatives)]), LONGEST_PART
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON: ``words``, ``names``, ``settings``, ``command``, ``alternatives``."""
        return attrs.asdict(self)

    @property
    def _each(self) -> tuple[Fix, ...]:
        return (attrs.evolve(self, alternatives=()), *self.alternatives)


NO_FIX = Fix()


def as_fix(fix: Fix | str) -> Fix:
    """Return a fix; a text is its words."""
    return fix if isinstance(fix, Fix) else Fix(fix)


@frozen(kw_only=True)
class Reason:
    """Why something cannot be done: about what, why, and what mends it."""

    subject: str
    why: str
    fix: Fix = field(default=NO_FIX, converter=as_fix)


class PolyfaceError(Exception):
    """The base of every error polyface raises on purpose.

    Args:
        what: one sentence that says what happened.
        why: the reasons, one line each.
        fix: what to do about it; a text is words.
    """

    def __init__(self, what: str, *, why: Sequence[str] = (), fix: Fix | str = NO_FIX) -> None:
        # What others gave (a name, a file's content, a library's own message) may be of any length.
        self.what = shortened(what, LONGEST_PART)
        self.why = tuple(shortened(reason, LONGEST_PART) for reason in why)
        self.fix = as_fix(fix)
        super().__init__(self.what)

    @property
    def summary(self) -> str:
        """What happened and why, in one line; the remedy is for people who read the whole."""
        parts = (self.what.rstrip("."), "; ".join(why.rstrip(".") for why in self.why))
        return ": ".join(part for part in parts if part)

    def __str__(self) -> str:
        return self.message()

    def message(self, show: Callable[[Fix], str] = str) -> str:
        """Return the whole message, its fix as ``show`` writes it."""
        lines = [self.what, *(f"  - {reason}" for reason in self.why)]
        if self.fix:
            lines.append(f"To fix it: {show(self.fix)}")
        # Further lines of a part are indented, so that none passes for a part of its own.
        return "\n".join(line.replace("\n", "\n    ") for line in lines)


class ConfigError(PolyfaceError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class UnknownNameError(PolyfaceError, LookupError):
    """No installed plugin provides a detector or backend of that name."""


class AmbiguousNameError(PolyfaceError, LookupError):
    """Two distributions provide that name; ``distribution/name`` selects one."""


class PluginError(PolyfaceError):
    """A plugin could not be loaded."""


class ContractError(PluginError):
    """A plugin loaded, but something it provides breaks the contract of its hook, record or protocol."""


class UnsupportedError(PolyfaceError):
    """What is installed cannot do what was asked, such as run a detector on a backend; ``reasons`` says why.

    Where none of them has a fix, ``otherwise`` is a command that shows what can be done.
    """

    def __init__(self, what: str, reasons: Sequence[Reason] = (), *, otherwise: str = "polyface matrix") -> None:
        super().__init__(
            what,
            why=[*dict.fromkeys(f"{reason.subject}: {reason.why}" for reason in reasons)],
            fix=fixes(reasons) or Fix("choose another pair", command=otherwise),
        )
        self.reasons = tuple(reasons)


class BackendUnavailableError(PolyfaceError, RuntimeError):
    """The backend, or the device or precision asked of it, cannot be had on this machine."""


class ClosedError(BackendUnavailableError):
    """The detector or its session was closed, and runs no more."""


class OutOfMemoryError(BackendUnavailableError, MemoryError):
    """The memory of the device is too small for the weights, or for what was to be run."""


class NumericalError(BackendUnavailableError):
    """The network gave numbers that are not finite, or far too large: no face can come of them."""


class ArtifactError(PolyfaceError, ValueError):
    """An exported graph is damaged, is not the one its folder says it is, or cannot be stored."""


class WeightsError(PolyfaceError):
    """Something is wrong with a file of weights."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The weights are not on this machine."""


class WeightsMismatchError(WeightsError, ValueError):
    """A file of weights is not what its name or its detector says it is."""


class ImageError(PolyfaceError, ValueError):
    """An image cannot be read, or an array is not an image."""


class EvaluationError(PolyfaceError, ValueError):
    """Ground truth or predictions are missing, damaged, or do not belong together."""


def described(error: BaseException) -> str:
    """Return an error's type and message, whatever its own code does when asked for the message."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a stranger's __str__ may raise anything
        return f"{type(error).__name__}, whose message cannot be read"


def explain(error: Exception) -> tuple[list[str], Fix]:
    """Return why something failed and what mends it, where it is clear what: a cell of a table, or a row."""
    if isinstance(error, UnsupportedError):
        return [*error.why], fixes(error.reasons)
    if isinstance(error, PolyfaceError):
        return [error.what, *error.why], error.fix
    return [described(error)], NO_FIX


def reason_of(error: Exception) -> str:
    """Return why the system refused something, without the number and the path that its error repeats."""
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def plugin_errors(what: str, fix: Fix | str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Name a plugin for whatever its own code raises, but for polyface's errors, which say it themselves.

    Args:
        what: one sentence that says whose code failed, at what.
        fix: what to do about it.
        but: errors that are the caller's to explain; ``MemoryError`` always is.

    Raises:
        PluginError: in the place of anything else.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (PolyfaceError, MemoryError, *but)):
            raise
        raise PluginError(what, why=[described(error)], fix=fix) from error


def quoted(value: object) -> str:
    """Return a value as a message repeats it: as Python writes it, so that nothing in it is invisible, and short."""
    try:
        if isinstance(value, str):
            return shortened(value, 100, repr)
        return shortened(repr(value), 100)
    except Exception:  # noqa: BLE001 - nested too deep, an integer too long, or a stranger's __repr__
        return f"a value of type {type(value).__name__} that cannot be written out"


def shortened(text: str, most: int, show: Callable[[str], str] = str) -> str:
    """Return a text, or its beginning and how long it is; ``show`` writes what is kept of it."""
    return show(text) if len(text) <= most else f"{show(text[:most])}... ({len(text):,} characters)"


def fixes(reasons: Sequence[Reason]) -> Fix:
    """Return the remedies of several reasons as alternatives."""
    return functools.reduce(operator.or_, (reason.fix for reason in reasons), NO_FIX)


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ``"; did you mean 'x' or 'y'?"`` for the known names close to ``name``, or an empty string.

    All are shown with ``prefix`` before them; it makes no two names alike, and neither does case.
    """
    folded = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6) if len(name) <= LONGEST_PART else []
    return f"; did you mean {' or '.join(repr(prefix + folded[name]) for name in close)}?" if close else ""
