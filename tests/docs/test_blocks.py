"""Every page, block by block as a reader follows it: each command ends well, and each block of Python runs.

A page has a folder of its own, with ``examples/``, the repository's, and ``photos/``. Comments before a block, which
neither GitHub nor the site shows, say why it cannot run, what it needs that its words do not tell, or which command
goes before it::

    <!-- not run: it needs a GPU -->
    <!-- needs: supervision -->
    <!-- first: cp examples/astronaut.jpg photo.jpg -->
"""

from __future__ import annotations

import os
import re
import tomllib

import pytest
from click.testing import CliRunner

from pages import NOTE, ROOT, make_terminal, read_blocks, read_calls, run_blocks
from polyface.cli import group

PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for pattern in ("README.md", "[!.]*/README.md", "docs/**/*.md", "plugins/*/README.md")
    for path in sorted(ROOT.glob(pattern))
    if read_blocks(path)
}

ELSEWHERE = {
    "docs/guides/cluster.md": "plugins/polyface-ray/tests/test_page.py",
    "docs/guides/video.md": "tests/docs/test_video.py",
    "plugins/README.md": "tests/docs/test_guide.py",
}
"""The tests of those pages of which more is asked than that they run."""

# These take minutes each, and most of them data that is not here.
MEASUREMENTS = "benchmarks/README.md"


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """Where a page's blocks run, in the place of the user's environment."""
    environ = make_terminal(tmp_path)
    for name in os.environ.keys() - environ.keys():
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path / "page")


def shows_torch(page):
    return any("torch" in block.needs and "not run" not in block.notes for block in read_blocks(PAGES[page]))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.torch] if shows_torch(page) else [])
        for page in PAGES
        if page not in (*ELSEWHERE, MEASUREMENTS)
    ],
)
def test_all_that_a_page_shows_runs(page, terminal, require):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    if left_out := run_blocks(PAGES[page]):
        why = "; ".join(f"line {line} needs {', '.join(needs)}" for line, needs in left_out.items())
        assert not {need for needs in left_out.values() for need in needs} & require.promised, why
        pytest.skip(f"all runs but that {why}")


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_a_page_that_is_tested_elsewhere_is_read_there(page, test):
    assert page in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_comment_of_ours_stands_before_a_block(page):
    text = PAGES[page].read_text(encoding="utf-8")
    notes = [note for block in read_blocks(PAGES[page]) for note in block.notes.items()]
    assert NOTE.findall(text) == notes
    assert len(re.findall("<!-- (?:not run|needs|first)", text)) == len(notes)


@pytest.mark.parametrize("page", PAGES)
def test_a_command_has_the_options_that_a_page_gives_it(page, require):
    require("av", "fastapi", "pyarrow", "ray")  # with which come options and commands
    for block in read_blocks(PAGES[page]):
        for line, command in block.commands:
            for call in read_calls(command):
                # Options are looked at before the help is shown; nothing runs.
                result = CliRunner().invoke(group, [*call, "--help"])
                assert result.exit_code == 0, f"{page}:{line}: {result.output}"


@pytest.fixture(scope="module")
def extras():
    """The extras of each package of ours."""
    files = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    projects = [tomllib.loads(path.read_text())["project"] for path in files]
    return {project["name"]: {*project.get("optional-dependencies", ())} for project in projects}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_has_pip_install_is_there(page, extras):
    text = PAGES[page].read_text(encoding="utf-8")
    made = {f"polyface-{name}" for name in re.findall(r"polyface new \w+ (\S+)", text)}
    for names in re.findall(r"pip install ([^`\n]*)", text):
        for name, wanted in re.findall(r"\b(polyface[\w-]*)(?:\[([\w,-]+)\])?", names):
            if name not in made and f"{name}/plugins" not in names:  # no path/to/polyface/plugins/...
                assert name in extras
                assert {*filter(None, wanted.split(","))} <= extras[name]


@pytest.fixture
def write(terminal, tmp_path):
    def page(*lines):
        (tmp_path / "page.md").write_text("\n".join(["# A page", "", *lines, ""]))
        return tmp_path / "page.md"

    return page


def test_a_command_that_fails_is_named_with_what_it_wrote(write):
    page = write("```console", "$ echo done", "done", "$ echo why >&2; exit 3", "```")
    with pytest.raises(AssertionError, match=rf"{page}:6: \$ echo why >&2; exit 3\nends with 3\n\nwhy"):
        run_blocks(page)


def test_blocks_of_python_share_their_names_and_a_traceback_has_the_lines_of_the_page(write):
    page = write(
        "```python", "one = 1", "```", "- in a list:", "  ```python", "  assert one == 1", "  assert one == 2", "  ```"
    )
    with pytest.raises(AssertionError) as failed:
        run_blocks(page)
    assert (failed.traceback[-1].path, failed.traceback[-1].lineno + 1) == (page, 9)


def test_comments_say_what_goes_before_a_block_and_what_is_left_out(write):
    page = write(
        "<!-- not run: it would fail -->\n```console\n$ false\n```\n",
        "<!-- needs: one, pytest, two -->\n```console\n$ false\n```\n",
        "<!-- first: touch there -->\n```console\n$ rm there\n```",
    )
    assert run_blocks(page) == {10: ["one", "two"]}


def test_a_command_is_one_to_the_end_of_its_last_line(write):
    page = write("```console", "$ printf '%s' a \\", "    b > ab", "$ grep ab ab", "```")
    assert [line for line, _ in read_blocks(page)[0].commands] == [4, 6]
    run_blocks(page)


def test_calls_of_polyface_are_found_in_a_command():
    command = (
        "find . | POLYFACE_OFFLINE=1 polyface -v detect - --json > polyface && pip install polyface; polyface  # help"
    )
    assert read_calls(command) == [["-v", "detect", "-", "--json"], []]
    assert read_calls("cd polyface && polyface plugins") == [["plugins"]]


def test_pip_installs_what_the_page_made_and_nothing_else(write):
    project = (
        "[project]\\nname='made'\\nversion='1'\\n[build-system]\\nrequires=[]\\nbuild-backend='hatchling.build'\\n"
    )
    run_blocks(
        write(
            "```console",
            "$ pip install polyface-unknown ./plugins/polyface-yunet",
            f'$ mkdir -p my/made; printf "{project}" > my/pyproject.toml; echo "print(7)" > my/made/__init__.py',
            "$ pip install -e 'my[test]' && python -m made.__init__ | grep 7",
            "```",
        )
    )
