"""Where settings come from: which source is stronger, and what a file that was merely found may set.

From weakest to strongest: the records' own defaults, ``polyface.toml``, ``[tool.polyface]`` in ``pyproject.toml``,
``POLYFACE_*`` in the environment, keywords and command-line options; before these last comes what lies beside a
detector's own file, see :mod:`polyface.graphs.families`. What there is to set is read off the records. All share these
sources: whoever loads one record passes over what belongs to the others.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import attrs

from polyface.errors import ConfigError, Fix, nearest, quoted, shortened
from polyface.settings.config import Config, Job
from polyface.settings.files import Source, find_sources, read_named
from polyface.settings.keywords import AllSettings
from polyface.settings.paths import expand_user
from polyface.settings.record import SettingsRecord, check_names, settings

LOG = logging.getLogger("polyface.settings")
"""Says as a warning what is left out, and as information which files take part; the command line prints both."""

SETTINGS_RECORDS = (Config, Job)
"""Every record of settings, in the order in which they are shown."""

RESERVED = ("CONFIG", "DISABLE_PLUGINS", "HOME", "OFFLINE", "PLUGINS", "SHARED", "STRICT_PLUGINS")
"""``POLYFACE_*`` names that are not settings: CONFIG names a file, HOME a folder, SHARED the tests' data; OFFLINE
forbids to fetch."""

_FOREIGN = (
    # Kubernetes' variables of a Service that is called polyface, and Docker's of a link to such a container:
    # https://kubernetes.io/docs/concepts/services-networking
    re.compile(r"(\w+_)?SERVICE_HOST=.*"),
    re.compile(r"(\w+_)?SERVICE_PORT(_\w+)?=\d*"),
    re.compile(r"(\w+_)?PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"),
    re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*"),
    re.compile(r"(\w+_)?NAME=/[^/]+/[^/]+"),
    re.compile(r"(\w+_)?ENV_\w+=.*", re.DOTALL),
)


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    source: str = "keyword",
    **overrides: Unpack[AllSettings],
) -> Config:
    """Merge files, environment and keywords into one :class:`Config`.

    A file that is named, by ``path`` or ``POLYFACE_CONFIG``, is read as it is. One that is found takes part only if it
    and its folder belong to the user who runs this, or to root, and not everyone may write to them; the search goes
    into no other folder. What it names (``artifacts``, ``weights`` as a path) must lie below its own folder, links
    resolved, and ``formats`` and ``max_pixels`` it cannot set. The settings of a job, such as ``output``, are passed
    over.

    The logger ``polyface.settings`` says as a warning what is left out, and as information when a file that was found
    lies above the current folder, names files, or sets what bounds memory; the command line prints both.

    Args:
        path: the file to read; without it ``POLYFACE_CONFIG``, or the ``polyface.toml`` and ``pyproject.toml`` of the
            nearest folder that has settings, from ``directory`` upwards.
        environ: the environment; ``os.environ`` by default.
        directory: where the search starts; the current folder by default.
        source: what to call the overrides when one is wrong.
        **overrides: the strongest values; ``None`` leaves a setting to the weaker sources.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value is wrong; says where it stands.
    """
    config: Config
    (config,) = load(Config, path=path, environ=environ, directory=directory, source=source, overrides=overrides)
    return config


def load(
    *records: type[SettingsRecord],
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    source: str = "keyword",
    overrides: Mapping[str, Any],
) -> tuple[Any, ...]:
    """Return one of each of these records; the arguments are those of :func:`load_config`.

    Raises:
        ConfigError: as :func:`load_config`; also where an override is a setting of another record.
    """
    environ = os.environ if environ is None else environ
    chosen = path if path is not None else environ.get("POLYFACE_CONFIG") or None
    keys = {key.name: key for key in settings(*records)}
    layers: list[tuple[str, Mapping[str, Any]]] = []
    found: list[tuple[Source, dict[str, Any]]] = []
    for file in read_named(Path(chosen)) if chosen is not None else find_sources(directory, environ, LOG.warning):
        check_names(file.table, SETTINGS_RECORDS, (), file.origin)
        layers.append((file.origin, table := _from_file(file, keys)))
        found += [(file, table)] if file.found else []
    layers += [(f"environment {name}", {key: text}) for name, key, text in _from_environment(environ) if key in keys]
    check_names(overrides, records, SETTINGS_RECORDS, source)
    layers.append((source, {name: value for name, value in overrides.items() if value is not None}))
    values = {name: (value, origin) for origin, layer in layers for name, value in layer.items()}
    for file, table in found:
        counts = [name for name in table if values[name][1] == file.origin]
        if counts and (file.above or any(_is_notable(keys[name], table[name]) for name in counts)):
            LOG.info("settings from %s: %s", file.origin, ", ".join(counts))
    made = []
    for record in records:
        own = {key.name: values[key.name] for key in settings(record) if key.name in values}
        sources = {name: origin for name, (_, origin) in own.items()}
        made.append(record(**{name: value for name, (value, _) in own.items()}, sources=sources))
    return tuple(made)


def _from_file(file: Source, keys: Mapping[str, attrs.Attribute[Any]]) -> dict[str, Any]:
    """The settings of a file, its paths anchored to its folder; those of a file that was found lead nowhere else."""
    table = {name: _anchor(keys[name], value, file.path.parent) for name, value in file.table.items() if name in keys}
    if file.found:
        for name, value in table.items():
            for path in _paths(keys[name], value):
                _check_inside(name, path, file)
            if value and (why := keys[name].metadata["guard"]):
                raise _refused(f"{name} cannot be set by a file that was found", [why], file)
    return table


def _is_notable(key: attrs.Attribute[Any], value: Any) -> bool:
    """Whether it should be said that a file that was found sets this: it names files, or lets a run take more."""
    return bool(_paths(key, value) or key.metadata["costs"])


def _paths(key: attrs.Attribute[Any], value: Any) -> list[str]:
    """What of a value names a file or folder."""
    parts = value if isinstance(value, list) else [value]
    paths = [key.metadata["path_in"](part) for part in parts if isinstance(part, str)]
    return [path for path in paths if path]


def _anchor(key: attrs.Attribute[Any], value: Any, folder: Path) -> Any:
    """Paths in a file are meant from where the file lies."""
    if isinstance(value, list):
        return [_anchor(key, part, folder) for part in value]
    if not (paths := _paths(key, value)):
        return value
    end = "/" if paths[0].endswith(("/", os.sep)) else ""  # which says that it is a folder
    return f"{value.removesuffix(paths[0])}{folder / expand_user(paths[0])}{end}"


def _check_inside(name: str, path: str, file: Source) -> None:
    """Refuse what leads out of the folder of a file that was found: it may be a clone of a stranger's."""
    try:
        real = Path(path).resolve()
        if real.is_relative_to(file.path.parent.resolve()):
            return
        why = f"it leads to {real}"
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL
        why = str(error)
    what = f"{name} must lie below the folder of the file that sets it, not {quoted(path)}"
    raise _refused(what, [why, "the file was found, not named, and may be a stranger's"], file)


def _refused(what: str, why: Sequence[str], file: Source) -> ConfigError:
    named = shlex.quote(str(file.path))
    fix = Fix("if it is yours", settings={"config": str(file.path)}) | f"POLYFACE_CONFIG={named}"
    return ConfigError(f"{what} ({file.origin}).", why=why, fix=fix)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Each variable that is a setting of some record, the setting's name, and its text."""
    ours = [key.name.upper() for key in settings(*SETTINGS_RECORDS)]
    names = [*ours, *RESERVED]
    for variable, text in environ.items():
        name = variable.removeprefix("POLYFACE_")
        if name == variable or name in RESERVED or not text:
            continue
        if name in ours:
            yield variable, name.lower(), text
        elif any(pattern.fullmatch(f"{name}={text}") for pattern in _FOREIGN):
            continue
        # From this likeness on, an unknown variable is taken for a slip in the name of a known one.
        elif len(name) < 100 and difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.8):
            raise ConfigError(
                f"There is no setting {variable} (environment){nearest(name.upper(), names, prefix='POLYFACE_')}",
                why=["an unknown variable is passed over, but this is nearly one that is known"],
            )
        else:
            LOG.warning("%s is no setting, and is passed over (environment)", shortened(variable, 100))
