"""``python -m polyface``."""

import os
import sys


def leave_out_current_folder() -> None:
    """Take the current folder off the front of ``sys.path``, where ``python -m`` puts it.

    Plugins, and what they import, would be found in a stranger's folder; the command ``polyface`` looks there for
    nothing. The folders of ``PYTHONPATH`` come after it, and stay.
    """
    if sys.flags.safe_path:
        return
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib is not to be imported from that folder
    except OSError:  # it was deleted
        return
    if sys.path[:1] in ([""], [here]):
        del sys.path[0]


if __name__ == "__main__":
    leave_out_current_folder()

    from polyface.cli import main

    main()
