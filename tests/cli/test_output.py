"""Standard output is the command's alone, whatever plugins and their runtimes print."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from polyface.cli import COMMANDS, PluginCommand, group
from polyface.cli.output import Command

CHATTY = """
import os
import sys

import polyface.cli
from polyface_example.backend import NumpyBackend, NumpySession

def say(place, kept):
    def saying(*arguments):
        print(f"printed in {place}")
        os.write(1, f"written in {place}\\n".encode())
        return kept(*arguments)
    return saying

NumpyBackend.probe = say("probe", NumpyBackend.probe)
NumpyBackend.compile = say("compile", NumpyBackend.compile)
NumpySession.run = say("run", NumpySession.run)
polyface.cli.main(sys.argv[1:])
"""


@pytest.fixture
def chatty():
    """Run a command, in a process of its own, on a backend that prints, in Python and past it."""

    def run(*arguments, **options):
        code = [sys.executable, "-c", CHATTY, *map(str, arguments)]
        return subprocess.run(code, check=False, capture_output=True, text=True, encoding="utf-8", **options)

    return run


SAID = [f"{how} in {place}" for place in ("probe", "compile", "run") for how in ("printed", "written")]


def test_what_a_backend_prints_is_not_among_the_json(chatty, image):
    done = chatty("detect", image("é.png"), "--json")
    assert done.returncode == 0
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == ["é.png"]
    assert sorted(line for line in done.stderr.splitlines() if " in " in line) == sorted(SAID)


def test_what_a_backend_prints_is_not_in_the_table(chatty, image):
    done = chatty("detect", image("a.png"))
    assert done.returncode == 0
    assert "a.png" in done.stdout
    assert " in " not in done.stdout


def test_standard_output_keeps_its_encoding_and_what_it_does_with_other_letters():
    code = "import polyface.cli.output as o\nwith o.own_stdout():\n    o.echo('\u00e9 \u4e00')"
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1:backslashreplace"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env=environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xe9 \\u4e00\n", b"")


def test_a_reader_that_goes_away_ends_the_command_quietly(image):
    command = [sys.executable, "-m", "polyface", "detect", image("a.png"), "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, check=False, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_process_without_standard_output_works(image):
    command = [sys.executable, "-m", "polyface", "detect", image("a.png"), "--json"]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1))
    assert done.returncode == 0


def test_help_and_version_go_to_standard_output(polyface):
    for arguments in (["--help"], ["--version"], ["detect", "--help"]):
        done = polyface(*arguments)
        assert (done.exit_code, bool(done.stdout), done.stderr) == (0, True, "")


def commands(within, context):
    for name in within.list_commands(context):
        command = within.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, context)
        else:
            yield command


def test_every_command_has_standard_output_to_itself():
    found = list(commands(group, click.Context(group)))
    assert len(found) >= len(COMMANDS)
    assert [command.name for command in found if not isinstance(command, Command | PluginCommand)] == []
