"""``polyface serve``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from polyface.cli.options import SOURCE, config_options, pass_plugins
from polyface.cli.output import Command
from polyface.cli.tables import note, say
from polyface.errors import ConfigError, Fix, quoted, reason_of
from polyface.settings.config import Config
from polyface.settings.loading import load_config
from polyface.settings.paths import is_file
from polyface.settings.record import settings
from polyface_serve.limits import MAX_PIXELS, Limits

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager

USUAL = Limits()
FIRST = (480, 640, 3)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
OURS = frozenset(key.name for key in settings(Config)) - {"detector", "timing"}
"""The settings of a detector that are options: those of :class:`polyface.settings.config.Config` but for two."""


LIMITS = {
    "max_bytes": "Most bytes of a request.",
    "max_images": "Most images of a request.",
    "queue": "Most images that wait or are examined, of one model; then requests are refused (503).",
    "upload_seconds": "Seconds in which a request must have come, and its answer have been taken.",
    "answer_seconds": "Seconds in which it must be answered from then on.",
    "idle_seconds": "Seconds after which a connection is cut whose client does nothing.",
}
"""The options for limits."""


class Seconds(click.FloatRange):
    """A time that ends; ``inf`` and ``nan`` are numbers, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds.

        Raises:
            click.UsageError: there are none.
        """
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} seconds do not end.", param, ctx)
        return seconds


def limit_options(function: Any) -> Any:
    """Add an option for each limit."""
    for name, text in reversed(LIMITS.items()):
        usual = getattr(USUAL, name)
        kind: Any = click.IntRange(1) if isinstance(usual, int) else Seconds(0, min_open=True)
        shown = f"{text} By default {usual:,}."
        option = click.option(f"--{name.replace('_', '-')}", type=kind, default=usual, metavar="NUMBER", help=shown)
        function = option(function)
    return function


@click.command("serve", cls=Command, short_help="Answer over HTTP, and show a page.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|FILE",
    help="Detector to serve; may stand several times. The first is taken where a request names none. By default the "
    "setting detector.",
)
@click.option(
    "--host",
    default=LOOPBACK[0],
    metavar="ADDRESS",
    help=f"Where to listen. By default {LOOPBACK[0]}, for this machine alone.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="NUMBER",
    help="Where to listen; 0 takes a free one. By default 8000.",
)
@click.option("--token-file", metavar="FILE", help="File of the token that requests must present; without it, none.")
@limit_options
@config_options(OURS)
@pass_plugins
def command(
    *,
    models: Sequence[str],
    host: str,
    port: int,
    token_file: str | None,
    config_file: str | None,
    plugins: PluginManager,
    **given: Any,
) -> None:
    """Find faces in the images that are sent over HTTP, and show a page for it at /.

    curl -F image=@photo.jpg http://127.0.0.1:8000/v1/detect

    POST /v1/detect gives the faces of one image or several as JSON, /v1/anonymize the image with its faces made
    unrecognisable, /v1/crop each face as an image. GET /v1/models, /healthz, /readyz, /metrics and /openapi.json say
    what there is. Images of several requests share runs of the network. No address is ever fetched.

    SIGTERM and Ctrl-C end it: nothing new is taken, and what is in flight is answered.

    Exit status: 0 after SIGTERM, 2 for usage and configuration, 130 after Ctrl-C.
    """
    from polyface_serve.app import make_app
    from polyface_serve.batching import Model
    from polyface_serve.metrics import Metrics
    from polyface_serve.server import make_server, open_socket, run

    limits = Limits(**{name: given.pop(name) for name in LIMITS})
    config = load_config(config_file, source=SOURCE, **given).replace(timing=True)
    if config.max_pixels is None:
        config = config.replace(max_pixels=MAX_PIXELS)
    token = None if token_file is None else read_token(Path(token_file))
    detectors = build_detectors(models or [config.detector], config, plugins)
    metrics = Metrics()
    listener = open_socket(host, port)
    served = [Model(name, detector, limits, metrics) for name, detector in detectors.items()]
    address, port = listener.getsockname()[:2]
    if host not in LOOPBACK and token is None:
        note("whoever reaches this port may use the service: it has no --token-file")
    say(f"{', '.join(detectors)}: http://{f'[{address}]' if ':' in address else address}:{port}/", err=True)
    run(make_server(lambda during: make_app(served, limits, metrics, token=token, during=during), limits), listener)


def build_detectors(models: Sequence[str], config: Config, plugins: PluginManager) -> dict[str, FaceDetector]:
    """Return the detector of each model, by what requests call it, ready to run.

    Args:
        models: names of detectors, and files, which are called by their names without folder and ending.
        config: all other settings.
        plugins: where names are looked up.

    Raises:
        ConfigError: two have one name.
        PolyfaceError: one cannot be built.
    """
    from polyface.building import build
    from polyface.graphs.families import drop_family

    names = [Path(model).stem if is_file(model) else model for model in models]
    if len(set(names)) < len(names):
        raise ConfigError("Two models have one name.", why=[", ".join(names)], fix="give each once: --model NAME")
    several = any(map(is_file, models))  # what is said of their family is none of the others' affair
    found = {}
    for name, model in zip(names, models, strict=True):
        own = drop_family(config) if several and not is_file(model) else config
        found[name] = build(own.replace(detector=model), plugins)
        found[name].detect(np.zeros(FIRST, np.uint8))  # what a first run takes, no request waits for
    return found


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        ConfigError: the file cannot be read, or holds none that a header can bear.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
        why = (
            ""
            if re.fullmatch(r"[!-~]{16,}", token)
            else "wanted are 16 printable ASCII characters or more, in one line"
        )
    except (OSError, UnicodeError) as error:
        why = reason_of(error)
    if why:
        raise ConfigError(
            f"There is no token in {quoted(str(path))}.", why=[why], fix=Fix(command=f"openssl rand -hex 32 > {path}")
        )
    return token
