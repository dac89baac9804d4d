"""Steps of plugins between the detector and the writers of a job."""

from __future__ import annotations

import sys
import types

import pytest

from polyface.errors import ConfigError, ImageError, PluginError, UnsupportedError
from polyface.jobs.steps import open_steps, run_steps
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import OptionSpec, Ref, Requirement, StepSpec
from polyface.results import Result

TRACK = (
    OptionSpec(name="track", type="bool", help="Track.", default=False),
    OptionSpec(name="gap", type="int", help="How long.", default=30, minimum=1),
)
EVERY = (OptionSpec(name="every", type="int", help="Each so many.", minimum=2),)


@pytest.fixture
def plugins(monkeypatch):
    """Two steps of a stranger, which say with what they were made, and one that lacks something."""
    module = types.ModuleType("stranger")
    module.Track = lambda **options: ("track", options)
    module.Between = lambda **options: ("between", options)
    monkeypatch.setitem(sys.modules, "stranger", module)
    need = (Requirement(module="no_such_module", install="no-such-package"),)
    lacks = (OptionSpec(name="lacks", type="bool", help="Lacks.", default=False),)
    plugin = types.ModuleType("plugin")
    plugin.polyface_steps = hookimpl(
        lambda: [
            StepSpec(name="track", summary="T", options=TRACK, on=("track",), factory=Ref("stranger:Track")),
            StepSpec(name="between", summary="B", options=EVERY, on=("every",), factory=Ref("stranger:Between")),
            StepSpec(name="l", summary="L", options=lacks, on=("lacks",), requires=need, factory=Ref("stranger:Track")),
        ]
    )
    manager = PluginManager()
    manager.register(plugin, name="stranger")
    return manager


class TestOn:
    @pytest.mark.parametrize("options", [{}, {"track": False}, {"gap": 5}, {"rows": 3}])
    def test_none_is_where_nothing_turns_it_on(self, plugins, options):
        assert open_steps(options, plugins) == []

    def test_each_is_by_its_own_option_in_the_order_of_the_plugin_with_what_is_its_own(self, plugins):
        steps = open_steps({"every": 5, "track": True, "rows": 3}, plugins)
        assert [(spec.name, step) for spec, step in steps] == [
            ("track", ("track", {"track": True, "gap": 30})),
            ("between", ("between", {"every": 5})),
        ]

    def test_an_option_that_is_wrong_is_refused(self, plugins):
        with pytest.raises(ConfigError, match="track: gap must be at least 1, not 0"):
            open_steps({"track": True, "gap": 0}, plugins)

    def test_what_is_missing_is_said(self, plugins):
        with pytest.raises(UnsupportedError, match="The step 'l' cannot be used here"):
            open_steps({"lacks": True}, plugins)

    def test_code_that_fails_is_named(self, plugins):
        sys.modules["stranger"].Track = lambda **_: len(None)
        with pytest.raises(PluginError, match="The step 'track' failed"):
            open_steps({"track": True}, plugins)


def spec(name):
    return StepSpec(name=name, summary="S", options=TRACK, on=("track",), factory=Ref("stranger:Track"))


def rename(letter):
    def step(results):
        for result in results:
            yield Result(name=result.name + letter)

    return step


class TestRun:
    results = (Result(name="1"), Result(name="2"))

    def test_they_follow_each_other(self):
        steps = [(spec("a"), rename("a")), (spec("b"), rename("b"))]
        assert [result.name for result in run_steps(self.results, steps)] == ["1ab", "2ab"]

    def test_without_any_the_results_are_those_of_the_stream(self):
        assert list(run_steps(self.results, [])) == list(self.results)

    @pytest.mark.parametrize("step", [lambda results: [len(None) for _ in results], lambda _: [7], lambda _: 7])
    def test_code_that_fails_or_yields_junk_is_named(self, step):
        with pytest.raises(PluginError, match="step 'a'"):
            list(run_steps(self.results, [(spec("a"), step)]))

    def test_what_ends_the_stream_is_not_theirs(self):
        def failing():
            yield self.results[0]
            raise ImageError("the stream's own")

        with pytest.raises(ImageError, match="the stream's own"):
            list(run_steps(failing(), [(spec("a"), rename("a"))]))

    def test_closing_early_closes_each(self):
        closed = []

        def step(letter):
            def run(results):
                try:
                    yield from results
                finally:
                    closed.append(letter)

            return run

        results = run_steps(iter(self.results), [(spec("a"), step("a")), (spec("b"), step("b"))])
        next(results)
        results.close()
        assert sorted(closed) == ["a", "b"]
