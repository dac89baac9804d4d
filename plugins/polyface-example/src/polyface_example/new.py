"""``polyface new``: this package under another name, reduced to one kind of plugin."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import re
import shlex
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click
from attrs import frozen

from polyface.errors import ConfigError, Fix, quoted
from polyface.plugins.records import BackendSpec, DetectorSpec, WriterSpec

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager

HERE = Path(__file__).parent
NAME = re.compile(r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*")
LONGEST = 30
"""Letters of a name: lines of code that have it stay within 120 columns."""

OWN_TABLES = ("[project.urls]", "[tool.hatch.build.targets.wheel.force-include]")
OWN_LINES = ("authors = ", '"Development Status')
"""Of this package's ``pyproject.toml``, what a new one does not take over."""

PYTEST_AND_RUFF = """
[tool.pytest.ini_options]
addopts = ["-p", "polyface.testing.plugin"]

[tool.ruff]
line-length = 120
"""


@frozen(kw_only=True)
class Kind:
    """One kind of plugin.

    Args:
        hook: the function of ``plugin.py`` that yields its record.
        files: the modules beside it.
        names: what stands in the place of what; see :meth:`Names.fill`.
        toy: what the toy does, after "It".
        run: the arguments of ``polyface detect photos/`` that try it.
        drops: lines of ``pyproject.toml`` that it does not need, by how they begin.
        tests: what its tests need beside pytest.
    """

    hook: str
    files: tuple[str, ...]
    names: Mapping[str, str]
    toy: str
    run: str
    drops: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


KINDS = {
    "detector": Kind(
        hook="polyface_detectors",
        files=("graph.py", "net.py", "head.py"),
        names={"example-redbox": "{name}", "Redbox": "{words}"},
        toy="finds bright red squares of 8 by 8 pixels",
        run="--detector {name} --backend numpy --output out/",
        tests=("polyface-example>=0.2,<0.3",),
    ),
    "backend": Kind(
        hook="polyface_backends",
        files=("backend.py",),
        # "numpy" alone is the kind of graph, which stays.
        names={
            'name="numpy"': 'name="{name}"',
            'backend = "numpy"': 'backend = "{name}"',
            "backend 'numpy'": "backend '{name}'",
            "Numpy": "{words}",
        },
        toy="runs networks written in NumPy",
        run="--detector example-redbox --backend {name} --output out/",
        drops=("torch = ",),
    ),
    "writer": Kind(
        hook="polyface_writers",
        files=("writer.py",),
        names={"example-counts": "{name}", "Counts": "{words}", ".counts.txt": "{ending}"},
        toy="writes how many faces each image has",
        run="--detector example-redbox --backend numpy --output faces{ending}",
        drops=('"numpy', "torch = "),
    ),
}


@frozen
class Names:
    """What is made of the name that was given."""

    name: str

    @property
    def package(self) -> str:
        """As ``pip`` knows it."""
        return f"polyface-{self.name}"

    @property
    def module(self) -> str:
        """As Python imports it."""
        return re.sub(r"[-.]", "_", self.package)

    @property
    def entry(self) -> str:
        """Its entry point; a dot would make a table of it in TOML."""
        return self.name.replace(".", "-")

    @property
    def words(self) -> str:
        """How the names of classes begin; what they end with is not said twice."""
        words = "".join(word.capitalize() for word in re.split(r"[-_.]", self.name))
        return re.sub(r"(?<=.)(Net|Head|Backend|Writer)$", "", words)

    @property
    def ending(self) -> str:
        """Of a writer's files."""
        return f".{re.sub(r'[-_.]', '', self.name)}.txt"

    def fill(self, text: str) -> str:
        """Put each in the place of its own name in braces, such as ``{module}``."""
        return re.sub(r"\{(\w+)\}", lambda found: str(getattr(self, found[1])), text)


@click.command("new")
@click.argument("kind", type=click.Choice([*KINDS]))
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where to write it; by default the current folder.",
)
def command(kind: str, name: str, folder: Path) -> None:
    """Begin a plugin of your own: write polyface-NAME, a package of a toy that runs, with its tests.

    Then replace the toy by yours, part by part: comments that begin with "Replace:" say what, and its README where.
    """
    from polyface.plugins.manager import installed_plugins

    check_name(kind, name, installed_plugins())
    names = Names(name)
    target = folder / names.package
    files = make_files(kind, names)
    write_files(target, files)
    click.echo(f"{target}/")
    for line in draw_tree(files):
        click.echo(line)
    click.echo("\nIt runs as it is. Install it, try it, and test it:\n")
    for line in next_steps(kind, names, str(target)):
        click.echo(f"  {line}")
    click.echo(f'\nThen replace the toy: comments with "Replace:" say by what, and {target / "README.md"} where.')


def check_name(kind: str, name: str, plugins: PluginManager) -> None:
    """Refuse a name of which no package can be made, or that something installed has.

    Raises:
        ConfigError: that is so.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST or name.startswith("polyface-"):
        simple = re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("polyface-")).lstrip("-0123456789")[:LONGEST]
        raise ConfigError(
            f"No {kind} can be called {quoted(name)}.",
            why=[
                "the package polyface-NAME, its modules and its classes are named after it",
                f"it has lower-case letters and digits, {LONGEST} at most, and a letter first; one '-', '_' or '.' may "
                "stand between two, and no polyface- before them",
            ],
            fix=Fix(command=f"polyface new {kind} {simple.rstrip('-') or 'mine'}"),
        )
    names = Names(name)
    owners = [
        f"a {label} of {plugins.owner_of(record)} has it"
        for label, spec in (("detector", DetectorSpec), ("backend", BackendSpec), ("writer", WriterSpec))
        for record in plugins.all(spec)
        if record.name == name
    ]
    if kind == "writer":
        owners += [
            f"its files would end with {names.ending}, as those of the writer '{record.name}' do"
            for record in plugins.all(WriterSpec)
            if record.name != name and names.ending in record.endings
        ]
    if name == "auto":
        owners.append("with it polyface chooses by itself")
    if importlib.util.find_spec(names.module) is not None:
        owners.append(f"a package {names.module} is installed")
    if owners:
        raise ConfigError(
            f"The name {quoted(name)} is taken.",
            why=owners,
            fix=Fix("choose another, best with your own in front", command=f"polyface new {kind} my-{name}"),
        )


def make_files(kind: str, names: Names) -> dict[str, str]:
    """Return the text of each file of the new package, by its path in it."""
    chosen = KINDS[kind]
    source, target = f"src/{HERE.name}", f"src/{names.module}"
    plugin, modules = _read(f"{source}/plugin.py"), ("plugin.py", *chosen.files)
    tests = ("tests/test_package.py", f"tests/test_{kind}.py")
    year = time.localtime().tm_year
    files = {
        "LICENSE": re.sub(r"(?m)^(Copyright \(c\)).*", rf"\1 {year}", _read("LICENSE")),
        "README.md": _make_readme(kind, names, (*modules, *tests)),
        "pyproject.toml": _make_project(kind, names),
        f"{target}/__init__.py": f'"""A {kind} for polyface."""\n',
        f"{target}/py.typed": "",
        f"{target}/plugin.py": _rename(keep_hook(plugin, chosen.hook), kind, names),
    }
    files |= {f"{target}/{module}": _rename(_read(f"{source}/{module}"), kind, names) for module in chosen.files}
    return files | {test: _rename(_read(test), kind, names) for test in tests}


def keep_hook(text: str, hook: str) -> str:
    """Return the text of a module with one of its functions alone, and with the imports that this one needs.

    What is imported from one module stands in a line each, or all in one.
    """
    body = ast.parse(text).body
    gone = [one for one in body if isinstance(one, ast.FunctionDef) and one.name != hook]
    kept = [one for one in body if one not in gone]
    used = {node.id for one in kept for node in ast.walk(one) if isinstance(node, ast.Name)} | {"annotations"}
    lines = dict(enumerate(text.splitlines(keepends=True), 1))
    for function in gone:
        first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
        for number in range(first - 2, (function.end_lineno or first) + 1):  # with the two empty lines before it
            del lines[number]
    for one in kept:
        if isinstance(one, ast.Import | ast.ImportFrom):
            for alias in one.names:
                if (alias.asname or alias.name) not in used:
                    del lines[alias.lineno]
    return "".join(lines.values())


def write_files(target: Path, files: Mapping[str, str]) -> None:
    """Write files below a new folder: all of them, or none.

    Raises:
        ConfigError: there is something at that path.
        OSError: they cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        target.lstat()
        raise ConfigError(
            f"{target} is there already.",
            why=["nothing of yours is written over"],
            fix=Fix("choose another name, or another folder:", names=("folder",)),
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".polyface-new-") as scratch:
        made = Path(scratch, target.name)
        for name, text in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        made.rename(target)


def draw_tree(files: Mapping[str, str]) -> list[str]:
    """Return a line for each file and folder, indented by how deep it lies."""
    paths = {PurePath(name) for name in files}
    folders = {parent for path in paths for parent in path.parents[:-1]}
    return [
        f"{'  ' * len(path.parts)}{path.name}{'/' if path in folders else ''}"
        for path in sorted(paths | folders, key=lambda path: path.parts)
    ]


def next_steps(kind: str, names: Names, target: str) -> list[str]:
    """Return the commands that install the new package, try it, and test it."""
    return [
        f"pip install -e {shlex.quote(f'{target}[test]')}",
        f"polyface detect photos/ {names.fill(KINDS[kind].run)}",
        f"pytest {shlex.quote(target)}",
    ]


def _make_readme(kind: str, names: Names, files: Iterable[str]) -> str:
    """What the new package is, how to try it, and of the table of files those that it has."""
    head, *rows = re.findall(r"(?m)^\|.*\n", _read("README.md"))
    rows = [row for row in rows if row.startswith("|---") or row.split("`")[1] in files]
    run = "".join(f"$ {line}\n" for line in next_steps(kind, names, names.package))
    return f"""# {names.package}

A {kind} for [polyface](https://pypi.org/project/polyface/). So far it is a toy, which {KINDS[kind].toy}:

```console
{run}```

Replace it part by part; the tests say what still holds. `grep -rn Replace: {names.package}` lists where to begin.

{_rename(head + "".join(rows), kind, names)}
The author's guide is `plugins/README.md` in polyface's repository.
"""


def _make_project(kind: str, names: Names) -> str:
    """The new package's ``pyproject.toml``: this one's, without its authors and what is for this command alone."""
    chosen = KINDS[kind]
    text = _rename(_read("pyproject.toml"), kind, names)
    tables = [table for table in text.rstrip().split("\n\n") if not table.startswith(OWN_TABLES)]
    text = "\n\n".join(tables) + "\n" + PYTEST_AND_RUFF
    values = {
        "version": '"0.1.0"',
        "description": f'"A {kind} for polyface"',
        "test": json.dumps(["pytest>=8", *chosen.tests]),
    }
    for key, value in values.items():
        text = re.sub(rf"(?m)^{key} = .*", f"{key} = {value}", text)
    text = re.sub(r"(?m)^example = ", f"{names.entry} = ", text)
    gone = "|".join(map(re.escape, (*OWN_LINES, *chosen.drops)))
    return re.sub(rf"(?m)^ *({gone}).*\n", "", text)


def _read(name: str) -> str:
    """A file of this package's project, by its path there.

    A wheel has what does not belong to the module in the folder ``template`` of it; the source tree has no such folder.
    """
    path = PurePath(name)
    if path.parts[0] == "src":
        return HERE.joinpath(*path.parts[2:]).read_text(encoding="utf-8")
    project = HERE / "template" if (HERE / "template").is_dir() else HERE.parents[1]
    return (project / path).read_text(encoding="utf-8")


def _rename(text: str, kind: str, names: Names) -> str:
    """A file's text with the names of the new package."""
    table = {**KINDS[kind].names, "polyface-example": "{package}", "polyface_example": "{module}"}
    text = re.sub("|".join(map(re.escape, table)), lambda found: names.fill(table[found[0]]), text)
    text = re.sub(r"  # noqa: \w+ - ", "  # ", text)  # the rules of this repository are not those of every other
    # In a project of its own polyface is a third party like these: its imports follow theirs, and the project's own
    # stand apart.
    text = re.sub(r"(?m)^((?:import|from) (?:numpy|pytest|torch)\b.*)\n\n(?=from polyface\.)", r"\1\n", text)
    return re.sub(rf"(?m)^(from polyface\..*\n)(?=from {names.module}\b)", r"\1\n", text)
