"""Run a command for the plugins of this repository: they are found in their folders, and listed nowhere.

    python tests/first_party.py COMMAND [ARGUMENT]...

In the arguments stand for the plugins of this environment: ``@folders`` (an argument each), ``@sources`` (the folders
that Python imports from, an argument each) and ``@packages`` (one argument, with commas). The variable ``FIRST_PARTY``
says which plugins these are: ``fitting`` (the default), those whose dependencies are installed; ``all`` of them; or the
names of some, with commas. Exit status is the command's.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def find_plugins(root: Path = ROOT) -> dict[str, set[str]]:
    """Return, for each plugin by its name, the names of the distributions that it depends on, extras left out."""
    found = {}
    for file in sorted(root.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        found[file.parent.name] = {read_name(requirement) for requirement in project.get("dependencies", ())}
    return found


def read_name(requirement: str) -> str:
    """Return ``"polyface-torch"`` of ``"polyface_torch[export]>=0.2"``."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def package(plugin: str) -> str:
    """Return ``"polyface_torch"`` of ``"polyface-torch"``."""
    return plugin.replace("-", "_")


def find_missing(plugin: str, plugins: dict[str, set[str]]) -> set[str]:
    """Return what a plugin depends on, by other plugins of this repository too, and is not installed."""
    missing = set()
    for name in plugins[plugin]:
        if name in plugins:
            missing |= find_missing(name, plugins)
        else:
            try:
                importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                missing.add(name)
    return missing


def select_plugins(wanted: str) -> list[str]:
    """Return the names of the plugins that ``FIRST_PARTY`` asks for; name on standard error those that do not fit."""
    plugins = find_plugins()
    if wanted == "all":
        return [*plugins]
    if wanted != "fitting":
        names = wanted.split(",")
        if unknown := [name for name in names if name not in plugins]:
            sys.exit(f"FIRST_PARTY: no {', '.join(unknown)} below {ROOT / 'plugins'}; there are {', '.join(plugins)}")
        return names
    missing = {plugin: find_missing(plugin, plugins) for plugin in plugins}
    for plugin, absent in missing.items():
        if absent:
            print(f"{plugin} is left out: {', '.join(sorted(absent))} not installed", file=sys.stderr)
    return [plugin for plugin, absent in missing.items() if not absent]


def main() -> int:
    selected = select_plugins(os.environ.get("FIRST_PARTY", "fitting"))
    folders = [f"./plugins/{plugin}" for plugin in selected]
    command: list[str] = []
    for argument in sys.argv[1:]:
        if argument == "@folders":
            command += folders
        elif argument == "@sources":
            command += [f"{folder}/src" for folder in folders]
        else:
            command.append(argument.replace("@packages", ",".join(map(package, selected))))
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
