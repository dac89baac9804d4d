"""``polyface fetch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import click

from polyface.cli.options import pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import note, printable, say, say_error
from polyface.errors import ConfigError, PolyfaceError
from polyface.graphs.weights import Weights, select_weights
from polyface.plugins.records import DetectorSpec

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager


@click.command("fetch", cls=Command, short_help="Download the weights of detectors.")
@click.argument("detectors", nargs=-1, required=True, metavar="DETECTOR...")
@click.option("--weights", metavar="NAME", help="Weights to fetch, where they are not the detector's default.")
@click.option("--offline", is_flag=True, help="Transfer nothing, only check what is here; as POLYFACE_OFFLINE=1.")
@click.pass_context
@pass_plugins
def command(
    ctx: click.Context, detectors: tuple[str, ...], weights: str | None, offline: bool, plugins: PluginManager
) -> None:
    """Download the weights of detectors into polyface's home, and check their sha256; what is there is only checked.

    Exit status: 0 if all weights are there, 1 if some could not be fetched (the rest is), 2 for usage.
    """
    from polyface.graphs.fetch import fetch

    failed = 0
    # All names are looked up before anything is transferred.
    choices = {name: select_weights(plugins.get(DetectorSpec, name), weights) for name in detectors}
    for name, choice in choices.items():
        try:
            with _progress(choice) as progress:
                path = fetch(attrs.evolve(choice, detector=name), offline=offline, notice=note, progress=progress)
        except ConfigError:
            raise  # it is wrong for all
        except PolyfaceError as error:
            failed += 1
            say_error(error)
        else:
            say(f"{name}: {_origin(choice)}{path or ''}")
    ctx.exit(1 if failed else 0)


def _origin(weights: Weights) -> str:
    if weights.file is None:
        return "your own file: " if weights.own else "needs no weights"
    ships = "ships with the plugin, " if weights.file.ref else ""
    return f"{weights.file.name}, {ships}verified: "


@contextmanager
def _progress(weights: Weights) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where somebody may see it, from the first byte on."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    disable = not console.is_terminal
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=disable) as bar:
        total = weights.file.size if weights.file else None
        task = bar.add_task(printable(f"{weights.detector}: {weights.label}"), total=total, visible=False)
        yield lambda received: bar.update(task, completed=received, visible=True)
