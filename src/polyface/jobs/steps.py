"""What stands between the detector and the writers: the steps of plugins that a job turns on."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence

from polyface.errors import ContractError, Fix, plugin_errors, quoted
from polyface.plugins.manager import PluginManager, load_code
from polyface.plugins.options import check_options, own_options
from polyface.plugins.protocols import Step
from polyface.plugins.records import OptionValue, StepSpec
from polyface.results import Result


def open_steps(options: Mapping[str, OptionValue], plugins: PluginManager) -> list[tuple[StepSpec, Step]]:
    """Return the steps that options turn on, each with its record, in their order.

    Raises:
        ConfigError: an option is wrong.
        UnsupportedError: a step requires something that is not installed.
        PluginError: the code of a step fails.
    """
    steps: list[tuple[StepSpec, Step]] = []
    for spec in plugins.all(StepSpec):
        own = own_options(spec, options)
        if any(name in own and own[name] is not False for name in spec.on):
            checked = check_options(f"step '{spec.name}'", spec.options, own, spec.name)
            with plugin_errors(*_failed(spec.name)):
                steps.append((spec, load_code(spec)(**checked)))
    return steps


def run_steps(results: Iterable[Result], steps: Sequence[tuple[StepSpec, Step]]) -> Generator[Result, None, None]:
    """Yield the results as the steps leave them.

    Args:
        results: as of :meth:`polyface.FaceDetector.stream`.
        steps: as of :func:`open_steps`; each serves one run.

    Raises:
        PluginError: the code of a step fails, or it yields what is no result.
    """
    with contextlib.ExitStack() as stack:
        for spec, step in steps:
            results = stack.enter_context(contextlib.closing(_guarded(spec.name, step, results)))
        yield from results


def _guarded(name: str, step: Step, results: Iterable[Result]) -> Generator[Result, None, None]:
    with plugin_errors(*_failed(name)):
        for result in step(results):
            if not isinstance(result, Result):
                raise ContractError(f"The step '{name}' must yield results, not {quoted(result)}.")
            yield result


def _failed(name: str) -> tuple[str, Fix]:
    return f"The step '{name}' failed.", Fix("mend its plugin, or leave it out by POLYFACE_DISABLE_PLUGINS")
