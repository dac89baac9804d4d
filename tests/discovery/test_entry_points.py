"""Discovery by entry point, in this process: metadata folders on the path, as pip, conda and Debian leave them."""

from __future__ import annotations

import itertools
import string
import sys
import types

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyface.errors import ConfigError, ContractError, PluginError, UnknownNameError
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import CORE, PluginManager
from polyface.plugins.records import BackendSpec, Capability, Ref, WriterSpec

MODULE = """
import polyface
from polyface.plugins.records import BackendSpec, WriterSpec, Capability, Ref

@polyface.hookimpl
def polyface_backends():
    yield BackendSpec(
        name="{backend}", summary="A backend", accepts=("onnx",), capabilities=(Capability(device="cpu"),),
        factory=Ref("nowhere:Backend"),
    )
"""
_numbers = itertools.count()


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Put a distribution on the path: its metadata, and a module for each entry point that gives a backend's name."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(name, entry_points, *, metadata=True):
        lines = ["[polyface]"]
        for entry_point, backend in entry_points.items():
            target = backend
            if not backend.startswith("="):
                target = f"fake_plugin_{next(_numbers)}"  # no two tests share what sys.modules holds
                (tmp_path / f"{target}.py").write_text(MODULE.format(backend=backend))
            lines.append(f"{entry_point} = {target.removeprefix('=')}")
        folder = tmp_path / f"{name.replace('-', '_')}-2.5.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_text("\n".join(lines))
        if metadata:
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        return tmp_path

    return add


def discover(**environ):
    return PluginManager.discover({f"POLYFACE_{name}": value for name, value in environ.items()})


def info_of(manager, name):
    [info] = [info for info in manager.plugins if info.name == name]
    return info


def test_a_plugin_is_found_with_the_name_and_version_of_its_distribution(distribution):
    distribution("acme-runtime", {"acme": "acme-fast"})
    info = info_of(discover(), "acme")
    assert (info.distribution, info.version, info.status) == ("acme-runtime", "2.5", "ok")
    assert info.hooks == ("polyface_backends",)


def test_a_damaged_entry_points_file_of_anybody_hides_no_plugin(distribution):
    folder = distribution("acme-runtime", {"acme": "acme-fast"})
    distribution("bystander", {})
    (folder / "bystander-2.5.dist-info" / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
    manager = discover()
    assert info_of(manager, "acme").status == "ok"
    damaged = info_of(manager, "entry_points.txt")
    assert (damaged.distribution, damaged.status) == ("bystander", "failed")


def test_of_two_copies_of_a_distribution_the_first_on_the_path_counts(distribution, tmp_path, monkeypatch):
    distribution("acme-runtime", {"acme": "acme-fast"})
    stale = tmp_path / "stale" / "acme_runtime-1.0.dist-info"
    stale.mkdir(parents=True)
    (stale / "entry_points.txt").write_text("[polyface]\nacme = gone\n")
    (stale / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-runtime\nVersion: 1.0\n")
    monkeypatch.setattr("sys.path", [*sys.path, str(stale.parent)])
    assert info_of(discover(), "acme").version == "2.5"


def test_an_entry_point_may_name_an_object(distribution):
    folder = distribution("acme", {"acme": "=acme_object_plugin:plugin"})
    source = MODULE.format(backend="from-object")
    end = "import types\nplugin = types.SimpleNamespace(polyface_backends=polyface_backends)\ndel polyface_backends\n"
    (folder / "acme_object_plugin.py").write_text(source + end)
    manager = discover(PLUGINS="acme")
    assert info_of(manager, "acme").error is None
    assert list(manager.by_name(BackendSpec)) == ["from-object"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("=module_that_is_not_there", "ModuleNotFoundError: No module named 'module_that_is_not_there'"),
        (
            "=polyface.plugins.records:NotThere",
            "AttributeError: module 'polyface.plugins.records' has no attribute 'NotThere'",
        ),
        ("=no module", "could not be loaded"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_kept_with_its_reason(distribution, target, reason):
    distribution("acme", {"lost": target, "found": "acme-fast"})
    manager = discover()
    info = info_of(manager, "lost")
    assert (info.status, type(info.error)) == ("failed", PluginError)
    assert reason in str(info.error)
    assert "acme-fast" in manager.by_name(BackendSpec)


def others(manager):
    """All plugins but those of core itself."""
    return [info for info in manager.plugins if info.distribution != CORE]


def test_two_distributions_may_share_the_name_of_an_entry_point(distribution):
    distribution("acme-one", {"plugin": "one"})
    distribution("acme-two", {"plugin": "two"})
    manager = discover(PLUGINS="plugin")
    loaded = [(info.distribution, info.status) for info in others(manager) if not info.disabled]
    assert loaded == [("acme-one", "ok"), ("acme-two", "ok")]
    assert list(manager.by_name(BackendSpec)) == ["one", "two"]


def test_a_distribution_without_metadata_disturbs_nothing(distribution):
    # What an uninstallation that was cut short leaves behind.
    distribution("acme", {"rest": "acme-rest"}, metadata=False)
    manager = discover()
    assert (info_of(manager, "rest").distribution, info_of(manager, "rest").status) == ("unknown", "ok")


def test_plugins_come_in_the_order_of_distribution_and_name_whatever_the_path_says(distribution):
    distribution("zebra", {"a": "backend-a"})
    distribution("ant", {"z": "backend-z", "b": "backend-b"})
    manager = discover(PLUGINS="zebra,ant")
    assert [info.name for info in others(manager) if not info.disabled] == ["b", "z", "a"]


class TestSwitches:
    @pytest.fixture(autouse=True)
    def three(self, distribution):
        distribution("acme", {"fast": "acme-fast", "slow": "acme-slow"})
        distribution("other", {"broken": "=module_that_is_not_there"})

    def test_strict_raises_the_first_failure(self):
        with pytest.raises(PluginError) as caught:
            discover(STRICT_PLUGINS="1")
        assert caught.value.what == "The plugin 'broken' of other 2.5 could not be loaded."
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)

    @pytest.mark.parametrize("value", ["", "0", "no", "False", "off"])
    def test_strict_can_be_switched_off(self, value):
        assert info_of(discover(STRICT_PLUGINS=value), "broken").status == "failed"

    def test_strict_does_not_mind_what_is_disabled(self):
        manager = discover(STRICT_PLUGINS="1", DISABLE_PLUGINS="broken")
        assert (info_of(manager, "broken").status, info_of(manager, "fast").status) == ("disabled", "ok")

    def test_a_list_of_plugins_loads_these_and_no_others(self):
        manager = discover(PLUGINS="fast")
        assert list(manager.by_name(BackendSpec)) == ["acme-fast"]
        assert {info.status for info in others(manager) if info.name != "fast"} == {"disabled"}

    def test_core_keeps_its_own_writers_and_sources_unless_they_are_disabled(self):
        own = ["anonymized", "coco", "crops", "csv", "images", "jsonl", "wider"]
        assert list(discover(PLUGINS="fast").by_name(WriterSpec)) == own
        assert not {*own} & {*discover(DISABLE_PLUGINS="polyface").by_name(WriterSpec)}

    def test_a_distribution_names_all_its_plugins(self):
        assert list(discover(PLUGINS="acme").by_name(BackendSpec)) == ["acme-fast", "acme-slow"]
        assert "acme-fast" not in discover(DISABLE_PLUGINS="acme").by_name(BackendSpec)

    def test_blanks_and_empty_places_in_a_list_do_not_matter(self):
        assert list(discover(PLUGINS=" fast , ,slow,").by_name(BackendSpec)) == ["acme-fast", "acme-slow"]

    def test_what_is_both_listed_and_disabled_is_disabled(self):
        assert list(discover(PLUGINS="acme", DISABLE_PLUGINS="slow").by_name(BackendSpec)) == ["acme-fast"]

    def test_a_listed_plugin_that_is_not_installed_is_an_error_with_the_nearest_name(self):
        with pytest.raises(ConfigError) as caught:
            discover(PLUGINS="fats")
        assert "names 'fats', which is not installed; did you mean 'fast'" in caught.value.what
        assert "acme, " in caught.value.why[0]

    def test_a_disabled_plugin_that_is_not_installed_is_an_error_too(self):
        with pytest.raises(ConfigError, match="POLYFACE_DISABLE_PLUGINS names 'not-there', which is not installed"):
            discover(DISABLE_PLUGINS="not-there")

    def test_an_unknown_name_mentions_what_failed_and_what_is_disabled(self):
        with pytest.raises(UnknownNameError) as caught:
            discover(DISABLE_PLUGINS="slow").get(BackendSpec, "acme-slow")
        assert "plugin 'slow' of acme, which may provide it: disabled" in caught.value.why
        assert "plugin 'broken' of other, which may provide it: failed" in caught.value.why


FIRST = set(string.ascii_lowercase + string.digits)
OTHER = FIRST | set("._-")


def backend(name):
    return BackendSpec(
        name=name,
        summary="A backend",
        accepts=("onnx",),
        capabilities=(Capability(device="cpu"),),
        factory=Ref("nowhere:Backend"),
    )


@given(st.text(max_size=8) | st.text(alphabet=sorted(OTHER), max_size=8))
@example("a\n")
@example("")
@example("İ")
@example("²")
def test_a_name_is_selectable_or_refused_in_one_sentence(name):
    if name[:1] in FIRST and set(name) <= OTHER:
        module = types.ModuleType("plugin")
        module.polyface_backends = hookimpl(lambda: [backend(name)])
        manager = PluginManager()
        manager.register(module, name="plugin", distribution="acme")
        assert manager.get(BackendSpec, name) is manager.get(BackendSpec, f"acme/{name}")
        assert list(manager.by_name(BackendSpec)) == [name]
    else:
        with pytest.raises(ContractError) as caught:
            backend(name)
        assert str(caught.value) == (
            "BackendSpec.name must be lower-case letters, digits, '.', '_' or '-', starting with a letter or digit, "
            f"not {name!r}."
        )


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_plugin_may_have_any_name(name, distribution):
    module = types.ModuleType("plugin")
    module.polyface_backends = hookimpl(lambda: [backend("fast")])
    manager = PluginManager()
    manager.register(module, name=name, distribution=distribution)
    assert manager.get(BackendSpec, f"{distribution}/fast") is manager.get(BackendSpec, "fast")
    assert [(info.name, info.distribution, info.status) for info in manager.plugins] == [(name, distribution, "ok")]


PANIC = """
class Panic(BaseException):
    pass
raise Panic("rust panicked")
"""
MUTE = """
class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")
raise Mute()
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (PANIC, "Panic: rust panicked (hostile.py, line 4)"),
        (MUTE, "Mute, whose message cannot be read (hostile.py, line 5)"),
        ("import asyncio\nraise asyncio.CancelledError('late')", "CancelledError: late (hostile.py, line 2)"),
    ],
)
def test_whatever_is_raised_at_import_is_kept(distribution, monkeypatch, code, reason):
    folder = distribution("hostile", {"hostile": "=hostile"})
    (folder / "hostile.py").write_text(code)
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    info = info_of(discover(PLUGINS="hostile"), "hostile")
    assert (info.status, info.error.why) == ("failed", (reason,))


def test_finding_plugins_leaves_standard_output_alone(distribution, monkeypatch, capsys):
    folder = distribution("chatty", {"chatty": "=chatty"})
    (folder / "chatty.py").write_text("import sys\nseen = sys.stdout\nprint('hello')")
    monkeypatch.delitem(sys.modules, "chatty", raising=False)
    assert info_of(discover(PLUGINS="chatty"), "chatty").status == "ok"
    assert sys.modules["chatty"].seen is sys.stdout
    assert capsys.readouterr() == ("hello\n", "")


def test_a_failed_second_registration_leaves_the_first_in_its_place():
    manager = PluginManager()
    good = types.SimpleNamespace(polyface_backends=hookimpl(lambda: ()))
    good.polyface_backends.__name__ = "polyface_backends"
    manager.register(good, name="same")
    with pytest.raises(PluginError):
        manager.register(types.SimpleNamespace(), name="same")
    assert manager._pluggy.get_plugin("local:same") is good


def test_a_failed_plugin_can_be_mended_and_registered_again():
    manager = PluginManager()

    @hookimpl
    def polyface_backends():
        if not mended:
            raise RuntimeError("not yet")
        return ()

    mended = False
    plugin = types.SimpleNamespace(polyface_backends=polyface_backends)
    with pytest.raises(PluginError):
        manager.register(plugin, name="late")
    mended = True
    manager.register(plugin, name="late")
    assert [info.status for info in manager.plugins] == ["failed", "ok"]
