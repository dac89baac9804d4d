"""From the settings to the record of a detector: one that a plugin has, or one made for a user's own ONNX file.

Which family a file is of, and what the file does not say, stands in the settings, or in ``mine.toml`` beside
``mine.onnx``. The family's own code makes the record from what the file says of itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from polyface.errors import (
    NO_FIX,
    ConfigError,
    ContractError,
    Fix,
    UnknownNameError,
    WeightsMismatchError,
    plugin_errors,
    quoted,
)
from polyface.graphs.onnx_file import OnnxFile, read_onnx
from polyface.graphs.weights import Weights, select_weights, verify
from polyface.optional import install
from polyface.plugins.manager import PluginManager
from polyface.plugins.options import check_options
from polyface.plugins.protocols import Graph, Interface
from polyface.plugins.records import DetectorSpec, FamilySpec, TensorSpec, WeightsFile
from polyface.settings.config import Config
from polyface.settings.files import read_beside
from polyface.settings.paths import expand_user, is_file
from polyface.settings.record import as_text, settings
from polyface.storage.files import sha256_of

LOG = logging.getLogger("polyface.settings")

FAMILIES = {
    "centerface": "polyface-centerface",
    "retinaface": "polyface-retinaface",
    "scrfd": "polyface-scrfd",
    "ssd": "polyface-retinaface",
    "yunet": "polyface-yunet",
}
"""Families, and the packages that bring them; for a message."""

CHANGED = "make the detector again, of the file that is there now"
"""What to do where a detector comes from another process, and its file has changed since."""

CALLS = ("keyword", "option")
"""Where settings come from that are said for the detector at hand."""

KEYS = ("family", "family_options")
"""What a file beside an ONNX file may say."""

BESIDE = "beside"
"""In the sources of settings: the file beside the detector's that they are settled with."""


@frozen(kw_only=True)
class Said:
    """What is said of a file: its family, its options, and where either is set, the strongest first."""

    family: str | None = None
    options: Mapping[str, Any] = field(factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(factory=dict)


def settle(config: Config) -> Config:
    """Return the settings with what they leave to the file beside a detector's own, and with whole paths.

    Another process, in another folder, makes the same detector of them. For a detector that is a file, the file beside
    it is stronger than files of settings and the environment, and weaker than what is said for the call. Its options
    are of the family that it names, or of any where it names none. Options in a file of settings or the environment
    count only beside the detector and the family that are set there: else they are meant for another file. The logger
    says which options are left out.

    Raises:
        ConfigError: the settings, or the file beside, contradict themselves, or it cannot be read.
    """
    config = _make_paths_whole(config)
    if not is_file(config.detector):
        if config.family is None and not config.family_options:
            return config
        if not any(config.sources.get(key, "keyword") in CALLS for key in KEYS if config.is_given(key)):
            return drop_family(config)  # a file of settings or the environment says it for files
        raise ConfigError(
            f"family says how an ONNX file is read, and the detector {quoted(config.detector)} is none.",
            why=[f"{key} is set ({config.sources[key]})" for key in KEYS if key in config.sources],
            fix=Fix("leave it out, or name a file that ends in .onnx as", names=("detector",)),
        )
    if config.weights is not None:
        raise ConfigError(
            "An ONNX file holds its weights, and takes no others.",
            why=[f"weights is set ({config.sources.get('weights', 'keyword')})"],
            fix=Fix("leave out", names=("weights",)),
        )
    beside = Path(config.detector).with_suffix(".toml")
    if config.sources.get(BESIDE) == str(beside):  # it was read
        return config
    said = _merge([_said_elsewhere(config), _read(beside), _said_for_call(config)])
    if used := [key for key, sources in said.sources.items() if str(beside) in sources]:
        LOG.info("settings from %s: %s", beside, ", ".join(used))
    bare = drop_family(config)
    sources = {**bare.sources, BESIDE: str(beside)} | {key: " and ".join(each) for key, each in said.sources.items()}
    return attrs.evolve(bare, family=said.family, family_options=said.options, sources=sources)


def drop_family(config: Config) -> Config:
    """Return the settings of a detector that has a name, and no family."""
    sources = {name: source for name, source in config.sources.items() if name not in KEYS}
    return attrs.evolve(config, family=None, family_options={}, sources=sources)


def _make_paths_whole(config: Config) -> Config:
    """Return the settings with paths that mean the same in every folder."""
    given = [(key, getattr(config, key.name)) for key in settings(Config)]
    paths = {key.name: key.metadata["path_in"](value) for key, value in given if isinstance(value, str)}
    whole: dict[str, Any] = {name: str(expand_user(path).absolute()) for name, path in paths.items() if path}
    return attrs.evolve(config, **whole) if any(paths[name] != path for name, path in whole.items()) else config


def _given(config: Config) -> dict[str, str]:
    """Where each key that is set comes from; what lay beside another file is of that one."""
    given = {key: config.sources.get(key, "keyword") for key in KEYS if config.is_given(key)}
    return {key: source for key, source in given.items() if source != config.sources.get(BESIDE)}


def _said(config: Config, sources: Mapping[str, str]) -> Said:
    return Said(
        family=config.family if "family" in sources else None,
        options=config.family_options if "family_options" in sources else {},
        sources={key: (source,) for key, source in sources.items()},
    )


def _said_for_call(config: Config) -> Said:
    return _said(config, {key: source for key, source in _given(config).items() if source in CALLS})


def _said_elsewhere(config: Config) -> Said:
    """What files of settings and the environment say; options only beside the detector and the family they are for."""
    said = {key: source for key, source in _given(config).items() if source not in CALLS}
    sources = [config.sources.get(key, "keyword") for key in ("detector", *KEYS)]
    # The variables of the environment are one source.
    whole = len({source.partition(" POLYFACE_")[0] for source in sources}) == 1
    if "family_options" in said and not whole:
        source = said.pop("family_options")
        LOG.warning(
            "family_options (%s) is left out: it counts beside the detector and the family of the same source", source
        )
    return _said(config, said)


def _read(beside: Path) -> Said:
    """What the file beside a detector's says."""
    table = read_beside(beside, os.environ, LOG.warning)
    if unknown := sorted({*table} - {*KEYS}):
        raise ConfigError(f"{beside} may say {' and '.join(KEYS)}, not {', '.join(map(quoted, unknown))}.")
    sources = dict.fromkeys(table, str(beside))
    return _said(Config(**table, sources=sources), sources)


def _merge(said: Sequence[Said]) -> Said:
    """Return what several sources say together, the weakest first; options of another family count no more."""
    family = next((one for one in reversed(said) if one.family is not None), Said())
    sources = {"family": family.sources["family"]} if family.family else {}
    options: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for one in said:
        if one.options and one.family not in (None, family.family):
            LOG.warning(
                "family_options (%s) is left out: it is for the family %s, not %s",
                *one.sources["family_options"],
                quoted(one.family),
                quoted(family.family),
            )
        elif one.options:
            options |= one.options
            owners |= dict.fromkeys(one.options, *one.sources["family_options"])
    if owners:
        each = [source for one in reversed(said) for source in one.sources.get("family_options", ())]
        sources["family_options"] = tuple(source for source in each if source in owners.values())
    return Said(family=family.family, options=options, sources=sources)


def find_detector(config: Config, plugins: PluginManager, own_sha256: str = "") -> tuple[DetectorSpec, Weights]:
    """Return the detector that the settings name, and its weights.

    Args:
        config: the settings.
        plugins: where names are looked up.
        own_sha256: what a user's own file must be; the settings are then settled, and no file beside it is read.

    Raises:
        ConfigError: a file's family is not known, or does not fit it.
        UnknownNameError: no plugin provides the detector or the family, or it has no such weights;
            ``AmbiguousNameError`` if two do.
        WeightsError: there is no such file, or it is not what it should be.
        PluginError: the code of the family fails.
    """
    config = config if own_sha256 else settle(config)
    if not is_file(config.detector):
        detector = plugins.get(DetectorSpec, config.detector)
        weights = select_weights(detector, config.weights)
        if own_sha256 and weights.own:
            verify(weights.own, own_sha256, fix=CHANGED)
        _check_own_graph(detector, weights, plugins)
        return detector, weights
    path = Path(config.detector)
    if own_sha256 and path.is_file():
        verify(path, own_sha256, fix=CHANGED)
    interface = read_interface(path)
    if config.family is None:
        raise _no_family(interface, path, plugins)
    try:
        detector = describe(_family(config.family, plugins), interface, config.family_options)
    except (ConfigError, UnknownNameError) as error:
        set_by = {key: config.sources[key] for key in KEYS if config.sources.get(key, "keyword") not in CALLS}
        error.why += tuple(f"{key} is set ({source})" for key, source in set_by.items())
        raise
    # The file is what selects the detector, in a message as well.
    read_as = ["--family", config.family]
    if config.family_options:
        read_as += ["--family-options", as_text(None, config.family_options)]
    sha256 = interface.weights.sha256
    return detector, Weights(detector=config.detector, own=path, sha256=sha256, is_default=True, read_as=tuple(read_as))


def _check_own_graph(detector: DetectorSpec, weights: Weights, plugins: PluginManager) -> None:
    """Refuse a user's own ONNX file where a detector runs none, or another than its record describes.

    A family may take it, that of the same package before others.

    Raises:
        WeightsMismatchError: it is so.
    """
    if weights.own is None or weights.graph is None:
        return
    why = _misfits(detector, weights.graph)
    if not why:
        return
    interface = read_interface(weights.own)
    fitting, owner = fitting_families(interface, plugins), plugins.owner_of(detector)
    own = [name for name in fitting if plugins.owner_of(plugins.get(FamilySpec, name)) == owner]
    fix = NO_FIX
    for name in own or fitting:
        fix |= Fix(settings={"detector": str(weights.own), "family": name})
    fix = fix or Fix("choose others, or none, as", names=("weights",))
    raise WeightsMismatchError(f"'{detector.name}' cannot take {weights.own.name} as its weights.", why=why, fix=fix)


def _misfits(detector: DetectorSpec, file: OnnxFile) -> list[str]:
    """What of an ONNX file is not as the record of the detector that is to run it says."""
    kinds = {source.kind for source in detector.graphs if source.ref is None}
    if not kinds:
        return ["its network is built by code, and loads checkpoints"]
    if kinds != {"onnx"}:
        return []  # a converter makes another graph of it, and says what is wrong with it
    there = {tensor.name: tensor for tensor in (*file.inputs, *file.outputs)}
    return [
        f"wanted: {wanted.name} ({', '.join(map(str, wanted.dims))}); the file has {there.get(wanted.name, 'none')}"
        for wanted in (detector.input, *detector.outputs)
        if wanted.name not in there or not _is_as_free(there[wanted.name].dims, wanted, strict=wanted is detector.input)
    ]


def _is_as_free(dims: Sequence[int | str], wanted: TensorSpec, *, strict: bool) -> bool:
    """Whether a file's tensor takes what a record says; ``strict``: and fixes nothing that is free there."""
    if not dims:
        return True  # the file does not say
    return len(dims) == len(wanted.dims) and all(
        isinstance(there, str) or there == here or (isinstance(here, str) and not strict)
        for there, here in zip(dims, wanted.dims, strict=True)
    )


def read_interface(path: Path) -> Interface:
    """Return what a family is asked about: what a file says of itself. The interface names no family yet.

    Raises:
        WeightsError: as :func:`polyface.graphs.onnx_file.read_onnx`.
    """
    file = read_onnx(path)
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("._-")[:100] or "onnx-file"
    weights = WeightsFile(
        name=name,
        filename=path.name,
        sha256=sha256_of(path),
        size=path.stat().st_size,
        license="not known: the user's own file",
        urls=(path.as_uri(),),
    )
    return Interface(family="", name=name, weights=weights, inputs=file.inputs, outputs=file.outputs, opset=file.opset)


def _family(name: str, plugins: PluginManager) -> FamilySpec:
    try:
        return plugins.get(FamilySpec, name)
    except UnknownNameError as error:
        if name not in FAMILIES:
            raise
        raise UnknownNameError(error.what, why=error.why, fix=install(FAMILIES[name])) from None


def describe(family: FamilySpec, interface: Interface, options: Any) -> DetectorSpec:
    """Return the record that a family makes of a file.

    Raises:
        ConfigError: the file does not fit it, or an option is wrong.
        PluginError: its code fails, or makes no such record.
    """
    file = interface.weights.filename
    given = check_options(f"family '{family.name}'", family.parameters, options, "family_options")
    parameters = {name: value for name, value in given.items() if value is not None}
    with plugin_errors(f"The family '{family.name}' failed on {file}.", Fix("choose another", names=("family",))):
        try:
            spec: Any = family.describe.load()(attrs.evolve(interface, family=family.name), **parameters)
        except ContractError as error:
            raise ConfigError(
                f"The family '{family.name}' makes no detector of {file} with these options.",
                why=[error.what, *error.why],
                fix=Fix("change", names=("family_options",)),
            ) from error
    if not isinstance(spec, DetectorSpec) or spec.weights != (interface.weights,):
        raise ContractError(f"The family '{family.name}' made no DetectorSpec of {file} with its weights.")
    return spec


def fitting_families(interface: Interface, plugins: PluginManager) -> list[str]:
    """Return the names of the families of which a file may be, by its shapes; they may need options."""
    fitting = []
    for name, family in plugins.by_name(FamilySpec).items():
        try:
            describe(family, interface, {})
        except ConfigError as error:
            if "family_options" not in error.fix.names:
                continue
        except Exception:  # noqa: BLE001, S112 - a stranger's code; what it raises says that it does not fit
            continue
        fitting.append(name)
    return fitting


@contextlib.contextmanager
def naming_families(graph: Graph, weights: Weights, plugins: PluginManager) -> Iterator[None]:
    """Have a converter that proposes a user's graph as a detector of its own say of which families that may be.

    Args:
        graph: what it converts: the user's file, or what was made of it.
        weights: those selected.
        plugins: where families are looked up.
    """
    try:
        yield
    except ContractError as error:
        fixes = [error.fix, *error.fix.alternatives]
        proposed = {"detector": str(graph.source)}
        if not weights.own_graph or weights.own is None or proposed not in [fix.settings for fix in fixes]:
            raise
        fitting = fitting_families(read_interface(weights.own), plugins)
        named = [{"detector": str(weights.own), "family": name} for name in fitting]
        error.fix = NO_FIX
        for fix in fixes:
            for settings in named if fix.settings == proposed else [fix.settings]:
                error.fix = error.fix | attrs.evolve(fix, settings=settings, alternatives=())
        if not fitting:
            names = ", ".join(plugins.by_name(FamilySpec))
            error.why = (*error.why, f"by its shapes it is of none of the families that are installed ({names})")
        raise


def _no_family(interface: Interface, path: Path, plugins: PluginManager) -> ConfigError:
    """The error for a file of which nobody said how to read it: what it has, and which families would take it."""
    families = plugins.by_name(FamilySpec)
    fitting = fitting_families(interface, plugins)
    if not fitting:
        interface.fields()  # says so where the file is one that none can take
    there = [f"{name} ({family.summary})" for name, family in families.items()]
    absent = {name: package for name, package in FAMILIES.items() if name not in {f.name for f in families.values()}}
    elsewhere = [f"{name} (of {package})" for name, package in absent.items()]
    fix = Fix("choose one as", names=("family",))
    if absent and not fitting:
        fix = install(*sorted({*absent.values()}))
    for name in reversed(fitting):
        fix = Fix(settings={"family": name}) | fix
    keep = f'to keep it, write family = "{(*fitting, "NAME")[0]}" into {path.with_suffix(".toml")}'
    return ConfigError(
        f"It is not known of which family the network in {path.name} is.",
        why=[
            *interface.lines,
            f"families: {', '.join(there) or 'none is installed'}",
            f"by its shapes it may be of: {', '.join(fitting) or 'none of them'}",
            *([] if fitting or not absent else [f"families that are not here: {', '.join(elsewhere)}"]),
        ],
        fix=fix | f"{keep}, and its options into [family_options]",
    )
