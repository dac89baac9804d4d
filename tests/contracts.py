"""Check who may import whom: core by ``pyproject.toml``, and the plugins by what each asks for in its own.

    python tests/contracts.py

- Core knows no plugin.
- No plugin knows another, unless it depends on it. Where only its extra ``torch`` asks for the other one, its
  ``net.py`` alone may read its checkpoint with it.
- Torch stays out of ``plugin.py``; of a plugin that does not depend on torch, it stays out of all but ``net.py``.
- Ray stays out of every plugin that does not depend on it.

Needs import-linter. Exit status 1 where a contract is broken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from first_party import ROOT, find_plugins, package, read_name

TORCH = ("torch", "torchvision")


def section(title: str, **values: str | list[str]) -> str:
    """Return a section of an INI file; an item of a list stands on a line of its own."""
    lines = [f"[{title}]"]
    for key, value in values.items():
        lines.append(f"{key} = " + ("".join(f"\n    {item}" for item in value) if isinstance(value, list) else value))
    return "\n".join(lines) + "\n\n"


def allowed_imports(plugins: dict[str, set[str]]) -> Iterator[str]:
    """The imports from plugin to plugin that their ``pyproject.toml`` ask for."""
    for plugin, needs in plugins.items():
        project = tomllib.loads((ROOT / "plugins" / plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extra = {read_name(requirement) for requirement in project.get("optional-dependencies", {}).get("torch", ())}
        for other in plugins:
            if other in needs:
                yield f"{package(plugin)}.** -> {package(other)}.**"
            elif other in extra:
                yield f"{package(plugin)}.net -> {package(other)}.checkpoint"


def without_torch(plugin: str, needs: set[str]) -> Iterator[str]:
    """The modules of a plugin that torch stays out of."""
    for module in sorted((ROOT / "plugins" / plugin / "src" / package(plugin)).glob("[!_]*")):
        if module.stem == "plugin" or ("torch" not in needs and module.stem != "net" and is_module(module)):
            yield f"{package(plugin)}.{module.stem}"


def is_module(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").exists()


def write_contracts(plugins: dict[str, set[str]]) -> str:
    """Return the configuration of import-linter for all plugins."""
    packages = [*map(package, plugins)]
    return (
        section(
            "importlinter",
            root_packages=["polyface", *packages],
            include_external_packages="True",
            exclude_type_checking_imports="True",
        )
        + section(
            "importlinter:contract:core",
            name="core knows no plugin",
            type="forbidden",
            source_modules=["polyface"],
            forbidden_modules=packages,
        )
        + section(
            "importlinter:contract:plugins",
            name="no plugin knows another that it does not depend on",
            type="independence",
            modules=packages,
            ignore_imports=[*allowed_imports(plugins)],
            unmatched_ignore_imports_alerting="none",
        )
        + section(
            "importlinter:contract:torch",
            name="a plugin is listed without torch, and only its net.py imports it where it does not depend on it",
            type="forbidden",
            source_modules=[name for plugin, needs in plugins.items() for name in without_torch(plugin, needs)],
            forbidden_modules=[*TORCH],
        )
        + section(
            "importlinter:contract:ray",
            name="only a plugin that depends on Ray imports it",
            type="forbidden",
            source_modules=[package(plugin) for plugin, needs in plugins.items() if "ray" not in needs],
            forbidden_modules=["ray"],
        )
    )


def main() -> int:
    plugins = find_plugins()
    sources = [ROOT / "src", *(ROOT / "plugins" / plugin / "src" for plugin in plugins)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "contracts.ini")
        config.write_text(write_contracts(plugins), encoding="utf-8")
        checks = (["lint-imports"], ["lint-imports", "--no-cache", str(config)])
        return max(subprocess.run(check, cwd=ROOT, env=environ, check=False).returncode for check in checks)


if __name__ == "__main__":
    sys.exit(main())
