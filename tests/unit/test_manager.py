"""Plugins registered in memory, and lookup of what they provide. Discovery by entry point has its own folder."""

from __future__ import annotations

import types

import attrs
import pytest

from polyface.errors import AmbiguousNameError, ContractError, PluginError, UnknownNameError
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import BackendSpec, ConverterSpec, DetectorSpec


def plugin(**hooks):
    """A plugin module with these hooks: each a function, or the records that it yields."""
    module = types.ModuleType("some_plugin")
    for name, hook in hooks.items():
        setattr(module, name, hookimpl(hook if callable(hook) else yielding(hook)))
    return module


def yielding(records):
    return lambda: iter(records)


@pytest.fixture
def manager():
    return PluginManager()


@pytest.fixture
def toy(detector_spec, backend_spec, converter_spec):
    """A plugin that provides one record of each kind."""
    return plugin(
        polyface_detectors=[detector_spec], polyface_backends=[backend_spec], polyface_converters=[converter_spec]
    )


def register_failing(manager, broken, error=PluginError):
    with pytest.raises(error) as caught:
        manager.register(broken, name="broken", distribution="acme")
    assert type(caught.value) is error
    return caught.value


class TestRegister:
    def test_what_a_plugin_yields_is_found_by_name(self, manager, toy, detector_spec, backend_spec, converter_spec):
        manager.register(toy, name="toy")
        assert manager.get(DetectorSpec, "toy") is detector_spec
        assert manager.get(BackendSpec, "fast") is backend_spec
        assert manager.all(ConverterSpec) == (converter_spec,)
        assert (manager.by_name(DetectorSpec), manager.by_name(BackendSpec)) == (
            {"toy": detector_spec},
            {"fast": backend_spec},
        )

    def test_a_plugin_is_listed_with_its_hooks_and_records(self, manager, toy, detector_spec):
        manager.register(toy, name="toy", distribution="toy-faces")
        [info] = manager.plugins
        assert (info.name, info.distribution, info.status, info.error) == ("toy", "toy-faces", "ok", None)
        assert sorted(info.hooks) == ["polyface_backends", "polyface_converters", "polyface_detectors"]
        assert info.provided(type(detector_spec)) == (detector_spec,)

    def test_an_object_will_do_for_a_module(self, manager, detector_spec):
        class Plugin:
            @hookimpl
            def polyface_detectors(self):
                yield detector_spec

        manager.register(Plugin(), name="object")
        assert list(manager.by_name(DetectorSpec)) == ["toy"]

    def test_a_plugin_without_hooks_provides_nothing(self, manager):
        manager.register(plugin(), name="empty")
        assert (manager.plugins[0].status, manager.plugins[0].hooks, manager.by_name(DetectorSpec)) == ("ok", (), {})

    def test_the_same_plugin_twice_is_an_error_that_leaves_the_first(self, manager, toy):
        manager.register(toy, name="toy")
        with pytest.raises(PluginError):
            manager.register(toy, name="toy")
        assert [info.status for info in manager.plugins] == ["ok", "failed"]
        assert list(manager.by_name(DetectorSpec)) == ["toy"]


class TestBroken:
    """Each is refused with its reason, stays listed, provides nothing and disturbs no other."""

    @pytest.fixture(autouse=True)
    def others_are_undisturbed(self, manager, toy):
        manager.register(toy, name="toy", distribution="toy-faces")
        yield
        assert [info.status for info in manager.plugins] == ["ok", "failed"]
        assert manager.plugins[1].records == ()
        assert (list(manager.by_name(DetectorSpec)), list(manager.by_name(BackendSpec))) == (["toy"], ["fast"])
        manager.register(plugin(), name="later", distribution="acme")

    def test_a_misspelt_hook_names_the_nearest(self, manager, detector_spec):
        error = register_failing(manager, plugin(polyface_detector=[detector_spec]), ContractError)
        assert error.what == "The plugin 'broken' of acme could not be loaded."
        assert error.why[0].startswith("'polyface_detector' is no hook of polyface; did you mean 'polyface_detectors'")
        assert str(error.fix) == "mend or `pip uninstall acme`, or set POLYFACE_DISABLE_PLUGINS=broken"

    def test_a_hook_without_its_mark_says_where_to_put_it(self, manager):
        module = types.ModuleType("some_plugin")
        module.polyface_backends = lambda: ()
        error = register_failing(manager, module, ContractError)
        assert error.why == (
            "'polyface_backends' is not marked as a hook implementation.",
            "put @polyface.hookimpl above def polyface_backends",
        )

    def test_a_hook_that_dies_half_way_gives_nothing(self, manager, detector_spec):
        def polyface_detectors():
            yield attrs.evolve(detector_spec, name="first-half")
            raise RuntimeError("out of detectors")

        error = register_failing(manager, plugin(polyface_detectors=polyface_detectors))
        assert error.why[0].startswith("RuntimeError: out of detectors (test_manager.py, line ")
        assert isinstance(error.__cause__, RuntimeError)

    def test_a_hook_that_exits_does_not_end_the_process(self, manager):
        def polyface_backends():
            raise SystemExit(3)

        assert register_failing(manager, plugin(polyface_backends=polyface_backends)).why[0].startswith("SystemExit: 3")

    def test_a_hook_that_wants_an_argument_is_refused(self, manager):
        def polyface_detectors(config):
            return ()

        register_failing(manager, plugin(polyface_detectors=polyface_detectors))

    def test_a_hook_that_returns_no_iterable_is_refused(self, manager):
        error = register_failing(manager, plugin(polyface_detectors=lambda: None), ContractError)
        assert error.why == ("polyface_detectors must yield DetectorSpec or FamilySpec records, not return None.",)

    def test_a_hook_that_yields_another_record_is_refused(self, manager, backend_spec):
        error = register_failing(manager, plugin(polyface_detectors=[backend_spec]), ContractError)
        assert error.why[0].startswith(
            "polyface_detectors must yield DetectorSpec or FamilySpec records, not BackendSpec("
        )

    def test_one_name_twice_from_one_distribution_is_refused(self, manager, detector_spec):
        twice = plugin(polyface_detectors=[attrs.evolve(detector_spec, name="twin")] * 2)
        assert register_failing(manager, twice, ContractError).why == ("acme provides 'twin' twice.",)


class TestClash:
    @pytest.fixture(autouse=True)
    def two_of_one_name(self, manager, toy, detector_spec):
        other = plugin(polyface_detectors=[attrs.evolve(detector_spec, summary="Another")])
        manager.register(toy, name="toy", distribution="toy-faces")
        manager.register(other, name="other", distribution="acme")

    def test_the_bare_name_is_ambiguous_and_the_error_names_both(self, manager):
        with pytest.raises(AmbiguousNameError) as caught:
            manager.get(DetectorSpec, "toy")
        assert caught.value.what == "The detector name 'toy' is ambiguous."
        assert caught.value.why == ("'toy' provided by: toy-faces, acme",)
        assert str(caught.value.fix) == "name one of toy-faces/toy, acme/toy"

    def test_the_distribution_selects_one(self, manager):
        assert manager.get(DetectorSpec, "acme/toy").summary == "Another"
        assert manager.get(DetectorSpec, "toy-faces/toy").summary == "A toy"
        assert list(manager.by_name(DetectorSpec)) == ["acme/toy", "toy-faces/toy"]

    def test_what_is_not_ambiguous_keeps_its_bare_name(self, manager, backend_spec):
        assert list(manager.by_name(BackendSpec)) == ["fast"]
        assert manager.get(BackendSpec, "fast") is manager.get(BackendSpec, "toy-faces/fast") is backend_spec

    def test_both_plugins_are_listed_as_clashing(self, manager):
        assert [(info.status, info.clashes) for info in manager.plugins] == [
            ("clash", ("detector 'toy' is also provided by acme",)),
            ("clash", ("detector 'toy' is also provided by toy-faces",)),
        ]


class TestUnknown:
    def test_an_unknown_name_offers_the_nearest_and_lists_what_there_is(self, manager, toy):
        manager.register(toy, name="toy")
        with pytest.raises(UnknownNameError) as caught:
            manager.get(BackendSpec, "fsat")
        assert caught.value.what == "There is no backend named 'fsat'; did you mean 'fast'?"
        assert caught.value.why == ("available: fast",)
        assert "polyface plugins" in str(caught.value.fix)

    def test_a_plugin_that_failed_is_named_as_one_that_may_have_it(self, manager):
        register_failing(manager, plugin(polyface_detectors=lambda: None), ContractError)
        with pytest.raises(UnknownNameError) as caught:
            manager.get(DetectorSpec, "acme-small")
        assert caught.value.what == "There is no detector named 'acme-small'."
        assert caught.value.why == (
            "available: none",
            "plugin 'broken' of acme, which may provide it: failed",
        )

    def test_a_plugin_that_is_left_out_is_to_be_let_in_and_not_to_be_installed(self):
        with pytest.raises(UnknownNameError) as caught:
            PluginManager.discover({"POLYFACE_DISABLE_PLUGINS": "example"}).get(DetectorSpec, "example-redbox")
        assert "plugin 'example' of polyface-example, which may provide it: disabled" in caught.value.why
        assert "let POLYFACE_PLUGINS and POLYFACE_DISABLE_PLUGINS leave out none that has it" in str(caught.value.fix)
        assert "pip install" not in str(caught.value.fix)

    def test_the_name_of_a_backend_is_no_detector(self, manager, toy):
        manager.register(toy, name="toy")
        with pytest.raises(UnknownNameError, match="There is no detector named 'fast'"):
            manager.get(DetectorSpec, "fast")


def test_names_are_listed_sorted_whatever_the_order_of_registration(manager, detector_spec):
    for name in ("zebra", "ant", "mole"):
        manager.register(plugin(polyface_detectors=[attrs.evolve(detector_spec, name=name)]), name=name)
    assert list(manager.by_name(DetectorSpec)) == ["ant", "mole", "zebra"]
