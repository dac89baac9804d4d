"""The records that plugins hand to polyface: frozen, hashable, JSON-able, and free of NumPy and of every runtime.

A record is a *claim*: it costs nothing to make and nothing to read. What the claim is worth is found out later, by
the planner (is the runtime installed?) and by the backend (does it work here?).
"""

from __future__ import annotations

import importlib
import importlib.resources
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import attrs
from attrs import field, frozen

from polyface.errors import ContractError, quoted

OptionValue: TypeAlias = "bool | int | float | str"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_REF = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FILE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[^/\\:][^\\:]*")
_ENDING = re.compile(r"(\.[a-z0-9]+)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OPTION_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}

_Validator: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _rule(wanted: str, holds: Callable[[Any], bool]) -> _Validator:
    """An attrs validator that fails with one sentence of ours."""

    def check(record: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not holds(value):
            raise ContractError(f"{type(record).__name__}.{attribute.name} must be {wanted}, not {quoted(value)}.")

    return check


def _is(*types: type) -> _Validator:
    return _rule(
        "a " + " or a ".join(t.__name__ for t in types).replace("a NoneType", "None"),
        lambda value: isinstance(value, types) and not (isinstance(value, bool) and bool not in types),
    )


def _tuple_of(*types: type) -> _Validator:
    return _rule(
        "a sequence of " + " or ".join(t.__name__ for t in types),
        lambda value: isinstance(value, tuple) and all(isinstance(item, types) for item in value),
    )


def _as_tuple(value: Any) -> Any:
    """A tuple of what was given; strings and non-iterables pass unchanged, for the validator to refuse."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else value


def _pattern(wanted: str, pattern: re.Pattern[str]) -> _Validator:
    return _rule(wanted, lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None)


def _in(low: float, high: float) -> _Validator:
    return _rule(
        f"a number from {low:g} to {high:g}",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
    )


_name = _pattern("lower-case letters, digits, '.', '_' or '-', starting with a letter or digit", _NAME)
_text = _rule("a line of text", lambda value: isinstance(value, str) and bool(value.strip()) and "\n" not in value)
_endings = _rule(
    "a sequence of endings such as '.csv', in lower case",
    lambda value: isinstance(value, tuple) and all(isinstance(end, str) and _ENDING.fullmatch(end) for end in value),
)
_sha256 = _pattern("64 lower-case hexadecimal digits", _SHA256)
_count = _rule("a whole number of at least 1", lambda value: type(value) is int and value >= 1)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_range_of_sizes(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value)) and 0 < 8 * value[0] <= value[1]


_number = _rule("a finite number", _is_number)
_three_numbers = _rule(
    "three finite numbers", lambda value: isinstance(value, tuple) and len(value) == 3 and all(map(_is_number, value))
)


@frozen
class Ref:
    """Something importable, named but not imported: ``"package.module:attribute"``."""

    target: str = field(validator=_pattern("of the form 'package.module:attribute'", _REF))

    def load(self) -> Any:
        """Import the module and return the attribute.

        Raises:
            ContractError: the module cannot be imported, or has no such attribute.
        """
        module, _, attribute = self.target.partition(":")
        try:
            value: Any = importlib.import_module(module)
            for part in attribute.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError) as error:
            raise ContractError(
                f"'{self.target}' cannot be loaded.", why=[f"{type(error).__name__}: {error}"]
            ) from error
        return value


@frozen
class FileRef:
    """A file that ships inside a package: ``"package:folder/file"``, the path relative to the package."""

    target: str = field(validator=_pattern("of the form 'package:folder/file'", _FILE))

    @property
    def package(self) -> str:
        """The package that holds it."""
        return self.target.partition(":")[0]

    def path(self) -> Path:
        """Return where the file lies. Importing the package is all that this costs.

        Raises:
            ContractError: there is no such package, or no such file in it.
        """
        package, _, name = self.target.partition(":")
        try:
            found = importlib.resources.files(package).joinpath(name)
        except ImportError as error:
            raise ContractError(
                f"'{self.target}' cannot be found.", why=[f"{type(error).__name__}: {error}"]
            ) from error
        if not isinstance(found, Path):
            raise ContractError(
                f"'{self.target}' cannot be read in place.",
                why=[f"{found} lies within an archive"],
                fix="unpack the archive, and run the program from the folder",
            )
        if not found.is_file():
            raise ContractError(
                f"'{self.target}' cannot be found.", why=[f"{found} is not a file"], fix=f"reinstall {package}"
            )
        return found


@frozen(kw_only=True)
class Requirement:
    """A module that must be importable, and what to give ``pip install`` to have it."""

    module: str = field(validator=_text)
    install: str = field(validator=_text)


@frozen(kw_only=True)
class TensorSpec:
    """A named tensor; ``dims`` holds a number where a size is fixed, a name where it is not: ``("n", 3, "h", "w")``."""

    name: str = field(validator=_text)
    dims: tuple[int | str, ...] = field(
        converter=_as_tuple,
        validator=_rule(
            "a sequence of sizes of at least 1 and names",
            lambda dims: (
                isinstance(dims, tuple) and all((type(d) is int and d >= 1) or (isinstance(d, str) and d) for d in dims)
            ),
        ),
    )
    dtype: str = field(default="float32", validator=_rule("'float32'", lambda value: value == "float32"))


@frozen(kw_only=True)
class Preprocess:
    """How an image becomes the network's input, done by core, alike for every backend.

    Args:
        channels: ``"rgb"`` or ``"bgr"``: the order in which the network takes the channels.
        mean: subtracted from the 0-255 pixels; in ``channels`` order.
        std: divided by after that; in ``channels`` order.
        stride: height and width are padded to a multiple of this at least.
        pad_value: what the padding right and below holds, after mean and std.
    """

    channels: str = field(validator=_rule("'rgb' or 'bgr'", lambda value: value in ("rgb", "bgr")))
    mean: tuple[float, float, float] = field(converter=_as_tuple, validator=_three_numbers)
    std: tuple[float, float, float] = field(
        default=(1.0, 1.0, 1.0),
        converter=_as_tuple,
        validator=[_three_numbers, _rule("without a zero", all)],
    )
    stride: int = field(default=1, validator=_count)
    pad_value: float = field(default=0.0, validator=_number)


@frozen(kw_only=True)
class WeightsFile:
    """One file of trained weights.

    Args:
        name: how a user selects it, as in ``--weights NAME``.
        filename: what it is called in the weights folder.
        sha256: of the file, in hexadecimal; checked whenever the file is used.
        size: in bytes.
        license: under which terms the numbers may be used.
        research_only: those terms allow research and nothing else; polyface says so before it fetches the file.
        urls: where it can be fetched, best first.
        origin: who trained it, and where it was published.
        ref: where it lies inside the plugin's own package, when it ships with it.
    """

    name: str = field(validator=_name)
    filename: str = field(
        validator=_rule("a plain file name", lambda v: isinstance(v, str) and v not in ("", "..") and Path(v).name == v)
    )
    sha256: str = field(validator=_sha256)
    size: int = field(validator=_count)
    license: str = field(validator=_text)
    research_only: bool = field(default=False, validator=_is(bool))
    urls: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))
    origin: str = field(default="", validator=_is(str))
    ref: FileRef | None = field(default=None, validator=_is(FileRef, type(None)))

    def __attrs_post_init__(self) -> None:
        if not self.urls and self.ref is None:
            raise ContractError(f"WeightsFile '{self.name}' has neither a ref nor urls: there is no way to get it.")


@frozen(kw_only=True)
class GraphSource:
    """One form in which a detector publishes its network.

    Args:
        kind: the graph kind, such as ``"torch-module"`` or ``"onnx"``; backends say which kinds they accept.
        ref: a ``Ref`` to the builder (what it takes is the kind's own convention; ``torch-module`` is
            ``build(weights: Path | None, *, seed: int | None = None) -> torch.nn.Module``), or a ``FileRef``.
        weights: the ``WeightsFile.name`` baked into the file; ``None`` when the builder takes any checkpoint.
        sha256: of the file; required with a ``FileRef``.
        requires: what the builder imports.
    """

    kind: str = field(validator=_name)
    ref: Ref | FileRef = field(validator=_is(Ref, FileRef))
    weights: str | None = field(default=None, validator=_is(str, type(None)))
    sha256: str | None = field(default=None, validator=attrs.validators.optional(_sha256))
    requires: tuple[Requirement, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(Requirement))

    def __attrs_post_init__(self) -> None:
        if isinstance(self.ref, FileRef) and self.sha256 is None:
            raise ContractError(f"GraphSource '{self.kind}' names the file '{self.ref.target}' without its sha256.")


def least_run(face_sizes: tuple[float, float] | None, multiple: int = 1) -> int:
    """Return the pixels of the smallest run of the network that tiles can be cut for.

    Neighbouring tiles share what a face of the largest size needs, and a tile is twice as long at least.

    Args:
        face_sizes: as in :class:`DetectorSpec`.
        multiple: what the sides of the input are padded to a multiple of.
    """
    side = 256 if face_sizes is None else max(256, 2.5 * face_sizes[1] + 32)
    padded: int = math.ceil(side / multiple) * multiple
    return padded**2


@frozen(kw_only=True)
class DetectDefaults:
    """What a detector uses where the user says nothing.

    Args:
        score_threshold: a face must score at least this; in [0, 1].
        iou_threshold: of two boxes that overlap more than this, NMS drops the lower-scoring; in [0, 1].
        pre_nms_top_k: at most so many boxes of a view go into NMS, the highest-scoring. Where there were more, the
            result says that it is ``truncated``.
        post_nms_top_k: at most so many faces come back; ``None``, the default, is all of them. Likewise.
    """

    score_threshold: float = field(default=0.5, validator=_in(0, 1))
    iou_threshold: float = field(default=0.4, validator=_in(0, 1))
    pre_nms_top_k: int = field(default=5000, validator=_count)
    post_nms_top_k: int | None = field(default=None, validator=attrs.validators.optional(_count))


@frozen(kw_only=True)
class DetectorSpec:
    """A face detector.

    Args:
        name: how users select it.
        summary: one line for the tables.
        graph_version: raised whenever the network's outputs change for the same weights; part of an artifact's key.
        input: the network's one input, ``(n, 3, h, w)``.
        outputs: the network's raw heads, in order.
        preprocess: how an image becomes the input.
        head: a class or function without arguments that returns a :class:`polyface.plugins.protocols.Head`.
        graphs: the forms in which the network is published, preferred first.
        weights: the files of weights, the default first; empty when the builder needs none.
        landmarks: the names of the landmarks, in order; empty when it gives none.
        keep_float: which layers a quantiser must leave in float, as patterns for the names of their weights, such as
            ``"body.stage1.*"``; found by measuring what each costs in accuracy.
        defaults: thresholds and limits where the user says nothing.
        min_side: height and width are padded to this at least, in pixels.
        face_sizes: the smallest and the largest face that the network sees well: the longer side, in pixels of its
            input; found by measuring. The largest is at least eight times the smallest. Larger faces are looked for in
            shrunken views. ``None`` is for a network that sees faces of every size.
        run_pixels: a run of the network takes at most so many pixels of its input, batch included: what bounds memory.
            An image of more is seen in overlapping tiles. At least 256x256, and enough for tiles that share a face of
            the largest size.
        references: papers and repositories.
    """

    name: str = field(validator=_name)
    summary: str = field(validator=_text)
    graph_version: int = field(validator=_count)
    input: TensorSpec = field(validator=_is(TensorSpec))
    outputs: tuple[TensorSpec, ...] = field(converter=_as_tuple, validator=_tuple_of(TensorSpec))
    preprocess: Preprocess = field(validator=_is(Preprocess))
    head: Ref = field(validator=_is(Ref))
    graphs: tuple[GraphSource, ...] = field(converter=_as_tuple, validator=_tuple_of(GraphSource))
    weights: tuple[WeightsFile, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(WeightsFile))
    landmarks: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))
    keep_float: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))
    defaults: DetectDefaults = field(factory=DetectDefaults, validator=_is(DetectDefaults))
    min_side: int = field(default=32, validator=_count)
    face_sizes: tuple[float, float] | None = field(
        default=None,
        converter=_as_tuple,
        validator=_rule(
            "None, or the smallest and the largest face in pixels, at least eight times as large", _is_range_of_sizes
        ),
    )
    run_pixels: int = field(default=2048 * 2048, validator=_count)
    references: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))

    def __attrs_post_init__(self) -> None:
        known = {file.name for file in self.weights}
        for wrong, what in (
            (not self.outputs, "has no outputs"),
            (not self.graphs, "publishes no graph"),
            (len({o.name for o in self.outputs}) < len(self.outputs), "has two outputs of one name"),
            (len(known) < len(self.weights), "has two files of weights of one name"),
            (
                any(g.weights is not None and g.weights not in known for g in self.graphs),
                "has a graph made from weights it does not list",
            ),
            (self.run_pixels < least_run(self.face_sizes), "has run_pixels for tiles that share no face of its sizes"),
        ):
            if wrong:
                raise ContractError(f"DetectorSpec '{self.name}' {what}.")


def device_kind(device: str) -> str:
    """Return the kind of a device: ``"cuda"`` of ``"cuda:1"``."""
    return device.partition(":")[0]


@frozen(kw_only=True)
class Capability:
    """What a backend claims of one kind of device.

    Args:
        device: such as ``"cpu"`` or ``"cuda"``.
        precisions: such as ``("fp32", "fp16")``.
        accepts: the graph kinds it compiles in these precisions, preferred first; empty for those of the backend.
        note: what to know before relying on it, in a few words, such as ``"not yet run on a GPU"``; for the tables.
        driver: shared libraries one of which is there wherever the device may be, such as ``("libcuda.so.1",
            "nvcuda.dll")``: with everything on ``"auto"`` polyface looks for the device first where one can be loaded.
    """

    device: str = field(validator=_pattern("a kind of device without an index, such as 'cuda'", re.compile(r"[a-z]+")))
    precisions: tuple[str, ...] = field(
        default=("fp32",), converter=_as_tuple, validator=[_tuple_of(str), _rule("not empty", bool)]
    )
    accepts: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))
    note: str = field(default="", validator=_rule("a line of text", lambda v: isinstance(v, str) and "\n" not in v))
    driver: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))


@frozen(kw_only=True)
class OptionSpec:
    """An option of a backend, which core checks before the backend sees it.

    Args:
        name: the key under ``backend_options``.
        type: ``"bool"``, ``"int"``, ``"float"`` or ``"str"``.
        help: one line.
        default: the value where the user says nothing.
        minimum: the least value of a number.
        maximum: the greatest value of a number.
        choices: the values allowed, when they are few.
    """

    name: str = field(validator=_name)
    type: str = field(validator=_rule(f"one of {', '.join(_OPTION_TYPES)}", lambda value: value in _OPTION_TYPES))
    help: str = field(validator=_text)
    default: OptionValue | None = None
    minimum: float | None = field(default=None, validator=attrs.validators.optional(_number))
    maximum: float | None = field(default=None, validator=attrs.validators.optional(_number))
    choices: tuple[OptionValue, ...] = field(
        default=(), converter=_as_tuple, validator=_tuple_of(bool, int, float, str)
    )

    def __attrs_post_init__(self) -> None:
        problem = None if self.default is None else self.problem(self.default)
        if problem:
            raise ContractError(f"OptionSpec '{self.name}': the default {problem}.")

    def problem(self, value: object) -> str | None:
        """Return what is wrong with ``value``, as the end of a sentence, or ``None``."""
        wanted = _OPTION_TYPES[self.type]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if type(value) is not wanted and not (wanted is float and number):
            return f"must be of type {self.type}, not {quoted(value)}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(repr, self.choices))}, not {quoted(value)}"
        if self.minimum is not None and isinstance(value, int | float) and not value >= self.minimum:
            return f"must be at least {self.minimum:g}, not {quoted(value)}"
        if self.maximum is not None and isinstance(value, int | float) and not value <= self.maximum:
            return f"must be at most {self.maximum:g}, not {quoted(value)}"
        return None


@frozen(kw_only=True)
class BackendSpec:
    """A runtime that executes networks.

    Args:
        name: how users select it.
        summary: one line for the tables.
        accepts: the graph kinds it compiles, preferred first.
        capabilities: what it claims; ``device="auto"`` takes the first device of these that is really there. A device
            may stand here twice, for precisions that want graphs of another kind.
        requires: what must be installed for it.
        factory: a class or function without arguments that returns a :class:`polyface.plugins.protocols.Backend`.
        options: what ``backend_options`` may hold.
        preference: ``backend="auto"`` tries backends from the highest preference to the lowest, then by name.
        trim: what it frees stays with the process, which grows over images of ever new shapes: after runs at new
            shapes polyface gives free memory back to the system, unless the setting ``trim`` says otherwise.
    """

    name: str = field(validator=_name)
    summary: str = field(validator=_text)
    accepts: tuple[str, ...] = field(
        converter=_as_tuple, validator=[_tuple_of(str), _rule("at least one graph kind", bool)]
    )
    capabilities: tuple[Capability, ...] = field(
        converter=_as_tuple, validator=[_tuple_of(Capability), _rule("at least one device", bool)]
    )
    requires: tuple[Requirement, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(Requirement))
    factory: Ref = field(validator=_is(Ref))
    options: tuple[OptionSpec, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(OptionSpec))
    preference: int = field(default=0, validator=_is(int))
    trim: bool = field(default=False, validator=_is(bool))

    def claims(self, device: str, precision: str) -> tuple[Capability, ...]:
        """Return its claims on a device, or on any with ``"auto"``, in a precision."""
        kind = device_kind(device)
        return tuple(c for c in self.capabilities if kind in ("auto", c.device) and precision in c.precisions)

    def kinds(self, device: str, precision: str) -> tuple[str, ...]:
        """Return the graph kinds it compiles for a device, or for any with ``"auto"``, in a precision."""
        claims = self.claims(device, precision)
        return tuple(dict.fromkeys(kind for claim in claims for kind in claim.accepts or self.accepts))


@frozen(kw_only=True)
class ConverterSpec:
    """A way from one graph kind to another.

    Args:
        source: the graph kind it reads.
        target: the graph kind it writes, as a file.
        calibrated: it needs images to make the graph with, so it runs only where a user gives some
            (``polyface quantize``), and never by itself.
        requires: what must be installed for it.
        factory: a class or function without arguments that returns a :class:`polyface.plugins.protocols.Converter`, or
            a :class:`polyface.plugins.protocols.Quantizer` where it is calibrated.
    """

    source: str = field(validator=_name)
    target: str = field(validator=_name)
    calibrated: bool = field(default=False, validator=_is(bool))
    requires: tuple[Requirement, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(Requirement))
    factory: Ref = field(validator=_is(Ref))

    @property
    def name(self) -> str:
        """``"source-to-target"``, for messages and tables."""
        return f"{self.source}-to-{self.target}"


@frozen(kw_only=True)
class WriterSpec:
    """A way to write results: ``--output`` and :func:`polyface.jobs.run` select it.

    Args:
        name: how users select it.
        summary: one line for the tables.
        writes: ``"file"`` or ``"folder"``.
        endings: the ends of file names that select it, such as ``".csv"``; none for one that fills a folder.
        wants_image: each result that it gets has its image.
        requires: what must be installed for it.
        factory: called with a :class:`polyface.plugins.protocols.Place`, returns a
            :class:`polyface.plugins.protocols.Writer`.
    """

    name: str = field(validator=_name)
    summary: str = field(validator=_text)
    writes: str = field(
        default="file", validator=_rule("'file' or 'folder'", lambda value: value in ("file", "folder"))
    )
    endings: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_endings)
    wants_image: bool = field(default=False, validator=_is(bool))
    requires: tuple[Requirement, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(Requirement))
    factory: Ref = field(validator=_is(Ref))

    def __attrs_post_init__(self) -> None:
        if self.writes == "folder" and self.endings:
            raise ContractError(f"WriterSpec '{self.name}': one that fills a folder has no endings.")


@frozen(kw_only=True)
class SourceSpec:
    """A way to find images: what a user names selects it by how it begins or ends.

    Args:
        name: what it is called.
        summary: one line for the tables.
        prefixes: beginnings that select it, such as ``"rtsp://"``.
        endings: the ends of file names that select it, such as ``".mp4"``.
        requires: what must be installed for it.
        factory: called with what the user gave, a text, and a :class:`polyface.plugins.protocols.Search`; returns a :class:`polyface.plugins.protocols.Source`.
    """

    name: str = field(validator=_name)
    summary: str = field(validator=_text)
    prefixes: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(str))
    endings: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_endings)
    requires: tuple[Requirement, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(Requirement))
    factory: Ref = field(validator=_is(Ref))


@frozen(kw_only=True)
class CommandSpec:
    """A command of ``polyface``.

    Args:
        name: as it is typed.
        summary: one line for ``polyface --help``.
        requires: what must be installed for it.
        command: a :class:`click.Command`.
    """

    name: str = field(validator=_name)
    summary: str = field(validator=_text)
    requires: tuple[Requirement, ...] = field(default=(), converter=_as_tuple, validator=_tuple_of(Requirement))
    command: Ref = field(validator=_is(Ref))


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as dictionaries, tuples, strings and numbers, ready for ``json.dumps``."""

    def plain(_record: Any, _attribute: Any, value: Any) -> Any:
        return value.target if isinstance(value, Ref | FileRef) else value

    result: dict[str, Any] = attrs.asdict(record, value_serializer=plain)
    return result
