"""Commands that plugins add."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import click
import pytest

from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import CommandSpec, Ref, Requirement


@click.command("acme", short_help="not this one")
@click.option("--loud", is_flag=True)
@click.argument("word")
def acme(word, loud):
    """Say a word."""
    click.echo(word.upper() if loud else word)


@pytest.fixture(autouse=True)
def stranger(polyface, monkeypatch):
    """A plugin with a command, and with some that cannot be used."""
    module = types.ModuleType("stranger")
    module.acme, module.nothing = acme, 7
    monkeypatch.setitem(sys.modules, "stranger", module)
    need = (Requirement(module="no_such_module", install="no-such-package"),)
    specs = [
        CommandSpec(name="acme", summary="Say it", command=Ref("stranger:acme")),
        CommandSpec(name="lacking", summary="Lacks something", requires=need, command=Ref("stranger:acme")),
        CommandSpec(name="nothing", summary="Is no command", command=Ref("stranger:nothing")),
        CommandSpec(name="gone", summary="Is not there", command=Ref("no_such_module:command")),
        CommandSpec(name="detect", summary="Takes the place of ours", command=Ref("stranger:acme")),
    ]
    plugin = types.ModuleType("plugin")
    plugin.polyface_commands = hookimpl(lambda: specs)
    polyface.plugins = PluginManager.discover({"POLYFACE_PLUGINS": "polyface-example"})
    polyface.plugins.register(plugin, name="stranger")


def test_are_listed_with_their_summaries_after_ours_and_nothing_of_theirs_is_imported(polyface):
    lines = [line.split(maxsplit=1) for line in polyface("--help").stdout.splitlines()]
    assert lines[-5:] == [
        ["acme", "Say it"],
        ["gone", "Is not there"],
        ["lacking", "Lacks something"],
        ["new", "Begin a plugin of your own: a package that runs."],
        ["nothing", "Is no command"],
    ]
    assert ["detect", "Find the faces in images and folders."] in lines


def test_run_with_their_own_options_and_help(polyface):
    assert polyface("acme", "hello", "--loud").stdout == "HELLO\n"
    assert "Say a word." in polyface("acme", "--help").stdout
    result = polyface("acme")
    assert result.exit_code == 2
    assert "Missing argument 'WORD'" in result.stderr


def test_never_take_the_place_of_ours(polyface):
    assert "Find the faces" in polyface("detect", "--help").stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lacking", ["The command 'lacking' cannot be used here.", "To fix it: pip install no-such-package"]),
        ("nothing", ["The command 'nothing' is no click.Command.", "stranger:nothing"]),
        ("gone", ["'no_such_module:command' cannot be loaded."]),
        ("acem", ["No such command 'acem'; did you mean 'acme'?"]),
    ],
)
def test_that_cannot_be_used_say_why(polyface, name, words):
    result = polyface(name, "x")
    assert (result.exit_code, result.stdout) == (2, "")
    for word in words:
        assert word in result.stderr


def test_are_among_what_plugins_lists(polyface):
    lines = " ".join(polyface("plugins").stdout.split())
    assert (
        "commands: acme, lacking, nothing, gone, detect command 'detect' is never reached: polyface has its own"
        in lines
    )
    plugins = json.loads(polyface("plugins", "--json").stdout)
    assert [plugin["unreached"] for plugin in plugins if plugin["name"] == "stranger"] == [["detect"]]


def test_of_two_plugins_are_refused_by_the_name_that_both_have(polyface):
    plugin = types.ModuleType("plugin")
    plugin.polyface_commands = hookimpl(
        lambda: [CommandSpec(name="acme", summary="Another", command=Ref("stranger:acme"))]
    )
    polyface.plugins.register(plugin, name="another", distribution="another")
    result = polyface("acme", "hello")
    assert result.exit_code == 2
    assert "The command name 'acme' is ambiguous." in result.stderr
    assert polyface("another/acme", "hello").stdout == "hello\n"


def test_named_as_ours_are_reached_where_two_plugins_have_the_name(polyface):
    plugin = types.ModuleType("plugin")
    plugin.polyface_commands = hookimpl(
        lambda: [CommandSpec(name="detect", summary="Another", command=Ref("stranger:acme"))]
    )
    polyface.plugins.register(plugin, name="another", distribution="another")
    assert polyface("another/detect", "hello").stdout == "hello\n"
    assert all(plugin["unreached"] == [] for plugin in json.loads(polyface("plugins", "--json").stdout))


def test_a_mistake_in_the_environment_is_a_message_in_the_help_too():
    environ = {**os.environ, "POLYFACE_PLUGINS": "no-such-plugin"}
    command = [sys.executable, "-m", "polyface", "--help"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: POLYFACE_PLUGINS names 'no-such-plugin', which is not installed")
