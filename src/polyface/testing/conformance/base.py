"""What the classes share: named checks, and failures that are expected."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import pytest

from polyface.errors import ConfigError, described, explain, nearest
from polyface.plugins.kinds import kind_of
from polyface.plugins.manager import PluginManager, installed_plugins

PREFIX = "test_"


class Conformance:
    """Named checks; see the subclasses.

    Attributes:
        expected_failures: the checks that are known to fail, each with the reason. They are strict: one that passes
            after all is a failure.
        record: the class of the record that is checked.
    """

    expected_failures: ClassVar[Mapping[str, str]] = {}
    record: ClassVar[type[Any]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = cls.checks()
        for name, reason in cls.expected_failures.items():
            if name not in known:
                raise ConfigError(
                    f"{cls.__name__}.expected_failures names '{name}', which is no check{nearest(name, known) or '.'}",
                    why=[f"the checks: {', '.join(known)}"],
                )
            if not reason.strip():
                raise ConfigError(f"{cls.__name__}.expected_failures gives no reason for '{name}'.")

    @classmethod
    def checks(cls) -> dict[str, str]:
        """Return why each check is made, by its name, in the order in which they are written."""
        return {
            name.removeprefix(PREFIX): (inspect.getdoc(getattr(cls, name)) or "").partition("\n")[0]
            for base in reversed(cls.__mro__)
            for name in vars(base)
            if name.startswith(PREFIX)
        }

    @pytest.fixture(scope="class")
    @classmethod
    def plugins(cls) -> PluginManager:
        """Where names are looked up: the installed plugins."""
        return installed_plugins()

    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, plugins: PluginManager) -> Any:
        """The record of what is checked, which the attribute of its kind names."""
        return plugins.get(cls.record, getattr(cls, kind_of(cls.record).label))


def fail(what: str, why: Sequence[str] = (), fix: str = "") -> NoReturn:
    """Fail the check with a message in the form of polyface's errors."""
    pytest.fail(
        "\n".join([what, *(f"  - {line}" for line in why), *([f"To fix it: {fix}"] if fix else [])]), pytrace=False
    )


@contextlib.contextmanager
def fail_where_raised(what: str, fix: str = "") -> Iterator[None]:
    """Fail the check where the block, a stranger's code, raises anything."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        fail(what, explain(error)[0], fix)


def said_in_child(what: str, work: Callable[[], str], seconds: int, fix: str) -> str:
    """Fork, and return what ``work`` returns in the child; fail where it gives nothing within ``seconds``."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of forks while there are threads
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)  # ends it, whatever it waits for
        try:
            said = work()
        except BaseException as error:  # noqa: BLE001 - nothing may leave the child but by the pipe
            said = described(error)
        os.write(writing, b"said" + said.encode("utf-8", "backslashreplace")[:1000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not answer:
        ended = "waits for ever" if status == -signal.SIGALRM else f"ends with status {status}"
        fail(f"{what} {ended}.", fix=fix)
    return answer.removeprefix(b"said").decode()
