"""What docstrings and documents refer to by its name is there."""

from __future__ import annotations

import builtins
import importlib
import re
from pathlib import Path

import pytest

from polyface.errors import UnsupportedError

ROOT = Path(__file__).parents[2]
ROLE = re.compile(r":(?:mod|func|class|meth|attr|data|exc):`~?([^`]+)`")
CODE = {path: ROLE.findall(path.read_text(encoding="utf-8")) for path in ROOT.glob("**/src/**/*.py")}
DOCUMENTS = [ROOT / "README.md", *(ROOT / name for name in ("docs", "plugins", "benchmarks", ".github"))]
PAGES = [path for one in DOCUMENTS for path in ([one] if one.is_file() else sorted(one.rglob("*.md")))]


def is_there(name):
    """Whether a dotted name is a module, or what attributes lead to from one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                pytest.skip(f"{error.name} is not installed")
            continue
        for part in parts[count:]:
            if not hasattr(value, part) and part not in getattr(value, "__annotations__", ()):
                return False
            value = getattr(value, part, None)
        return True
    return False


def resolves(target, module):
    """Whether a role leads somewhere: from its module, from a class in it, or by its whole name."""
    own = importlib.import_module(module)
    classes = [value for value in vars(own).values() if isinstance(value, type) and value.__module__ == module]
    return (
        any(hasattr(one, target) for one in (own, builtins, *classes))
        or is_there(f"{module}.{target}")
        or is_there(target)
    )


@pytest.mark.parametrize(
    ("path", "targets"),
    [pytest.param(path, targets, id=str(path.relative_to(ROOT))) for path, targets in CODE.items() if targets],
)
def test_every_role_in_a_docstring_resolves(path, targets):
    inside = path.parts[len(path.parts) - path.parts[::-1].index("src") :]
    module = ".".join(inside).removesuffix(".py").removesuffix(".__init__")
    pytest.importorskip(module.partition(".")[0], reason="the plugin is not installed")
    try:
        assert is_there(module)
        assert [target for target in targets if not resolves(target, module)] == []
    except UnsupportedError as error:  # what the plugin needs is not there
        pytest.skip(str(error))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dotted_name_of_polyface_in_a_document_is_there(page):
    names = re.findall(r"`(polyface\.[A-Za-z_.]+)", page.read_text(encoding="utf-8"))
    assert [name for name in names if name != "polyface.toml" and not is_there(name.rstrip("."))] == []


def test_a_name_that_points_nowhere_is_found_out():
    assert is_there("polyface.results.Result.width")
    assert not is_there("polyface.results.Picture")
    assert not is_there("polyface.pictures")


def test_the_site_shows_the_options_that_writers_give_to_a_command(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    commands = importlib.import_module("command_line").commands.commands
    shown = {name: {param.name for param in commands[name].params} for name in ("detect", "crop", "anonymize")}
    assert {"margin", "align"} <= shown["crop"]
    assert {"how", "shape", "grow", "copy_unreadable"} <= shown["anonymize"]
    assert "margin" not in shown["detect"]
    assert "help" not in shown["crop"]
