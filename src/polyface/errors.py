"""The exceptions polyface raises.

Every message says what happened, why (one line a reason) and, where there is a remedy, the command that applies it.
The classes are plain and pickle, so an error crosses a process boundary intact.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence

from attrs import frozen

LONGEST_PART = 2000
"""At most so many characters of each part of a message are kept."""


@frozen(kw_only=True)
class Reason:
    """Why something cannot be done: about what, why, and the command that mends it."""

    subject: str
    why: str
    fix: str = ""


class PolyfaceError(Exception):
    """The base of every error polyface raises on purpose.

    Args:
        what: one sentence that says what happened.
        why: the reasons, one line each.
        fix: what to do about it, as a command where there is one.
    """

    def __init__(self, what: str, *, why: Sequence[str] = (), fix: str = "") -> None:
        # What others gave (a name, a file's content, a library's own message) may be of any length.
        self.what = shortened(what, LONGEST_PART)
        self.why = tuple(shortened(reason, LONGEST_PART) for reason in why)
        self.fix = shortened(fix, LONGEST_PART)
        super().__init__(self.what)

    @property
    def summary(self) -> str:
        """What happened and why, in one line; the remedy is for people who read the whole."""
        parts = (self.what.rstrip("."), "; ".join(why.rstrip(".") for why in self.why))
        return ": ".join(part for part in parts if part)

    def __str__(self) -> str:
        lines = [self.what, *(f"  - {reason}" for reason in self.why)]
        if self.fix:
            lines.append(f"To fix it: {self.fix}")
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
    """What is installed cannot do what was asked, such as run a detector on a backend; ``reasons`` says why."""

    def __init__(self, what: str, reasons: Sequence[Reason] = ()) -> None:
        super().__init__(
            what,
            why=[f"{reason.subject}: {reason.why}" for reason in reasons],
            fix=fixes(reasons) or "choose another pair: polyface matrix",
        )
        self.reasons = tuple(reasons)


class BackendUnavailableError(PolyfaceError, RuntimeError):
    """The backend, or the device or precision asked of it, cannot be had on this machine."""


class ClosedError(BackendUnavailableError):
    """The detector or its session was closed."""


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


def reason_of(error: Exception) -> str:
    """Return why the system refused something, without the number and the path that its error repeats."""
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def plugin_errors(what: str, fix: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
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


def fixes(reasons: Sequence[Reason]) -> str:
    """Return the remedies of several reasons, each once, or an empty string."""
    return "; or: ".join(dict.fromkeys(reason.fix for reason in reasons if reason.fix))


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return ``"; did you mean 'x' or 'y'?"`` for the known names close to ``name``, or an empty string.

    Args:
        name: what was given.
        known: what there is.
        prefix: what both begin with when they are shown; it makes no two names alike.
    """
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6) if len(name) <= LONGEST_PART else []
    return f"; did you mean {' or '.join(repr(prefix + name) for name in close)}?" if close else ""
