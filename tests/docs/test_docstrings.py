"""Every field and every argument has an entry of its own, wherever a docstring has entries at all."""

from __future__ import annotations

import ast
import re

import pytest


def entries(docstring):
    """The names in ``Args:``."""
    section = re.split(r"\n(?=\S)", docstring.partition("\nArgs:\n")[2])[0]
    return [name.lstrip("*") for name in re.findall(r"^    (\*{0,2}\w+): ", section, flags=re.MULTILINE)]


def names(node):
    """The public fields of a class, or what it or a function takes."""
    if isinstance(node, ast.ClassDef):
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        if fields:
            return [part.target.id for part in fields if "ClassVar" not in ast.unparse(part.annotation)]
        node = next(part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
    given = node.args
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def documented(root):
    for path in (*root.glob("src/**/*.py"), *root.glob("plugins/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and "\nArgs:\n" in (ast.get_docstring(node) or ""):
                yield f"{path.relative_to(root)}: {node.name}", node


def test_each_field_and_argument_has_its_own_entry(pytestconfig):
    lacking = {}
    for place, node in documented(pytestconfig.rootpath):
        public = {name for name in names(node) if name not in ("self", "cls") and not name.startswith("_")}
        if missing := public - set(entries(ast.get_docstring(node))):
            lacking[place] = missing
    assert lacking == {}


def test_each_entry_of_a_function_is_an_argument(pytestconfig):
    strange = {}
    for place, node in documented(pytestconfig.rootpath):
        if isinstance(node, ast.FunctionDef):
            more = {one.arg for one in (node.args.vararg, node.args.kwarg) if one}
            if left := set(entries(ast.get_docstring(node))) - {*names(node), *more}:
                strange[place] = left
    assert strange == {}


def test_no_argument_has_the_environment_for_its_default(pytestconfig):
    """``help`` and generated pages would print it, with whatever secrets it holds."""
    for path in (*pytestconfig.rootpath.glob("src/**/*.py"), *pytestconfig.rootpath.glob("plugins/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arguments):
                defaults = [ast.unparse(default) for default in (*node.defaults, *filter(None, node.kw_defaults))]
                assert not [default for default in defaults if "environ" in default], path


@pytest.mark.parametrize(
    ("docstring", "found"),
    [("What.\n\nArgs:\n    a: one.\n        b: more of it.\n    **c: rest.\n\nRaises:\n    D: never.", ["a", "c"])],
)
def test_entries_are_what_stands_under_args(docstring, found):
    assert entries(docstring) == found
