"""What the site reads from the code, so that a page cannot say something else. Sphinx is not needed here."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

import polyface
import polyface.testing
from polyface.cli import group
from polyface.cli.options import SETTINGS_RECORDS, flag
from polyface.errors import PolyfaceError
from polyface.plugins import hookspecs
from polyface.plugins.kinds import HOOKS
from polyface.settings.record import as_text, describe, settings
from polyface.testing.conformance.base import Conformance


def write_settings() -> Iterator[str]:
    """Yield the lines about the settings: each with its type, its default, its option and its variable."""
    for record in SETTINGS_RECORDS:
        yield f"## Of {record.owner}\n"
        texts = describe(record)
        for key in settings(record):
            default = as_text(key, key.default) if isinstance(key.default, str | int | float | bool | tuple) else ""
            wanted = key.metadata["wanted"]
            option = f"`{flag(key.name)} {wanted}`" if wanted else f"`{flag(key.name)}`, `{flag(f'no_{key.name}')}`"
            by_default = f"by default `{default}`; " if default else ""
            yield f"({key.name})=\n### `{key.name}`\n"
            yield f"{texts[key.name][:1].upper()}{texts[key.name][1:]}\n"
            yield f"{by_default}option {option}; variable `POLYFACE_{key.name.upper()}`\n"


def write_checks() -> Iterator[str]:
    """Yield the lines about the conformance kit: each class with its checks, and why each is made."""
    for name in polyface.testing.__all__:
        value = getattr(polyface.testing, name)
        if inspect.isclass(value) and issubclass(value, Conformance) and value is not Conformance:
            yield f"## `{name}`\n"
            yield from (f"- `{check}`: {why}" for check, why in value.checks().items())
            yield ""


def write_errors() -> Iterator[str]:
    """Yield a table of the errors, each below what it is a kind of."""
    yield "| error | also a | what it means |\n|---|---|---|"
    for cls in _below(PolyfaceError):
        kinds = [base for base in cls.__mro__ if base.__module__ == "builtins" and not issubclass(Exception, base)]
        closest = [kind for kind in kinds if not any(issubclass(one, kind) for one in kinds if one is not kind)]
        names = ", ".join(f"`{kind.__name__}`" for kind in closest)
        text = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
        yield f"| {{py:exc}}`~polyface.{cls.__name__}` | {names} | {text} |"


def _below(cls: type[PolyfaceError]) -> Iterator[type[PolyfaceError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__name__ in polyface.__all__:
            yield from _below(child)


def write_hooks() -> Iterator[str]:
    """Yield a table of the hooks: what each yields, and when polyface calls the code that its records name."""
    yield "| hook | what it yields | when their code is called |\n|---|---|---|"
    for name in HOOKS:
        hook = getattr(hookspecs, name)
        what, _, when = (inspect.getdoc(hook) or "").partition("\n\n")
        signature = str(inspect.signature(hook)).replace("'", "").replace("|", "\\|")
        what, when = (" ".join(part.replace("``", "`").split()) for part in (what, when))
        yield f"| `{name}{signature}` | {what.removeprefix('Yield ')} | {when} |"


def write_commands() -> Iterator[str]:
    """Yield a table of the commands, those of plugins among them."""
    yield "| command | what it does |\n|---|---|"
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # noqa: S101 - it was listed
        yield f"| `polyface {name}` | {command.get_short_help_str(120)} |"


WRITERS = {
    "settings": write_settings,
    "checks": write_checks,
    "errors": write_errors,
    "hooks": write_hooks,
    "commands": write_commands,
}
"""What the directive writes, by its argument."""
