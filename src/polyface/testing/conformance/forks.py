"""What a child of a fork makes of something."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

from polyface.errors import described
from polyface.testing.conformance.base import fail


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
