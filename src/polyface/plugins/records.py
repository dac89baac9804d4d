"""The records that plugins hand to polyface: frozen, hashable, JSON-able, and free of NumPy and of every runtime.

A record is a *claim*: it costs nothing to make and nothing to read. What the claim is worth is found out later, by
the planner (is the runtime installed?) and by the backend (does it work here?).
"""

from __future__ import annotations

import importlib
import importlib.resources
import math
from pathlib import Path
from typing import Any, TypeAlias

import attrs
from attrs import field, frozen

from polyface.errors import ContractError, quoted
from polyface.plugins import rules

Numbers: TypeAlias = "tuple[float, ...] | tuple[tuple[float, ...], ...]"
OptionValue: TypeAlias = "bool | int | float | str | Numbers"

_BUILT = {"torch-module": True, "onnx": False, "onnx-file": False, "onnx-int8": False}
"""Whether graphs of a kind come from builders; other kinds are their plugins' own affair."""

_OPTION_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
_LISTS = ("numbers", "lists of numbers")


@frozen
class Ref:
    """Something importable, named but not imported: ``"package.module:attribute"``."""

    target: str = field(validator=rules.matches("of the form 'package.module:attribute'", rules.REF))

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

    target: str = field(validator=rules.matches("of the form 'package:folder/file'", rules.FILE))

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

    module: str = field(validator=rules.text)
    install: str = field(validator=rules.text)


@frozen(kw_only=True)
class TensorSpec:
    """A named tensor; ``dims`` holds a number where a size is fixed, a name where it is not: ``("n", 3, "h", "w")``."""

    name: str = field(validator=rules.text)
    dims: tuple[int | str, ...] = field(
        converter=rules.as_tuple,
        validator=rules.rule(
            "a sequence of sizes of at least 1 and names",
            lambda dims: (
                isinstance(dims, tuple) and all((type(d) is int and d >= 1) or (isinstance(d, str) and d) for d in dims)
            ),
        ),
    )
    dtype: str = field(default="float32", validator=rules.one_of("float32"))


@frozen(kw_only=True)
class Preprocess:
    """How an image becomes the network's input, done by core, alike for every backend.

    Args:
        channels: ``"rgb"`` or ``"bgr"``: the order in which the network takes the channels.
        mean: subtracted from the 0-255 pixels; in ``channels`` order.
        std: divided by after that; in ``channels`` order.
        stride: height and width are padded to a multiple of this at least.
        pad_value: what the padding right and below holds, after mean and std: a number, or three in ``channels`` order.
    """

    channels: str = field(validator=rules.one_of("rgb", "bgr"))
    mean: tuple[float, float, float] = field(converter=rules.as_tuple, validator=rules.three_numbers)
    std: tuple[float, float, float] = field(
        default=(1.0, 1.0, 1.0),
        converter=rules.as_tuple,
        validator=[rules.three_numbers, rules.rule("without a zero", all)],
    )
    stride: int = field(default=1, validator=rules.count)
    pad_value: float | tuple[float, float, float] = field(
        default=0.0,
        converter=rules.as_tuple,
        validator=rules.rule("one or three finite numbers", lambda v: rules.is_number(v) or rules.are_three_numbers(v)),
    )

    @property
    def pads(self) -> tuple[float, float, float]:
        """What the padding holds in each channel, after mean and std."""
        value = self.pad_value
        return value if isinstance(value, tuple) else (value, value, value)

    @property
    def pad_pixel(self) -> tuple[int, int, int] | None:
        """The pixel, red first, that mean and std make the padding of; ``None`` where no whole levels do."""
        levels = []
        for mean, std, pad in zip(self.mean, self.std, self.pads, strict=True):
            level = round(min(max(pad * std + mean, 0), 255))
            if not math.isclose((level - mean) / std, pad, rel_tol=1e-6, abs_tol=1e-6):
                return None
            levels.append(level)
        first, second, third = levels
        return (first, second, third) if self.channels == "rgb" else (third, second, first)


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

    name: str = field(validator=rules.name)
    filename: str = field(
        validator=rules.rule(
            "a plain file name", lambda v: isinstance(v, str) and v not in ("", "..") and Path(v).name == v
        )
    )
    sha256: str = field(validator=rules.sha256)
    size: int = field(validator=rules.count)
    license: str = field(validator=rules.text)
    research_only: bool = field(default=False, validator=rules.is_a(bool))
    urls: tuple[str, ...] = rules.tuples(str)
    origin: str = field(default="", validator=rules.is_a(str))
    ref: FileRef | None = field(default=None, validator=rules.is_a(FileRef, type(None)))

    def __attrs_post_init__(self) -> None:
        if not self.urls and self.ref is None:
            raise ContractError(f"WeightsFile '{self.name}' has neither a ref nor urls: there is no way to get it.")


@frozen(kw_only=True)
class GraphSource:
    """One form in which a detector publishes its network.

    Args:
        kind: the graph kind, such as ``"torch-module"`` or ``"onnx"``; backends say which kinds they accept.
        ref: a ``Ref`` to the builder (what it takes is the kind's own convention; ``torch-module`` is
            ``build(weights: Path | None, *, seed: int | None = None) -> torch.nn.Module``), or a ``FileRef``; ``None``
            where the graph is the file of weights itself.
        weights: the ``WeightsFile.name`` baked into the file, or that is the graph; ``None`` when the builder takes any
            checkpoint.
        sha256: of the file; required with a ``FileRef``.
        requires: what the builder imports.
    """

    kind: str = field(validator=rules.name)
    ref: Ref | FileRef | None = field(default=None, validator=rules.is_a(Ref, FileRef, type(None)))
    weights: str | None = field(default=None, validator=rules.is_a(str, type(None)))
    sha256: str | None = field(default=None, validator=attrs.validators.optional(rules.sha256))
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.ref, FileRef) and self.sha256 is None:
            raise ContractError(f"GraphSource '{self.kind}' names the file '{self.ref.target}' without its sha256.")
        built = isinstance(self.ref, Ref)
        if _BUILT.get(self.kind, built) != built:
            wanted = "is a file: its ref is a FileRef, or none" if built else "is built: its ref is a Ref"
            raise ContractError(f"A GraphSource of the kind '{self.kind}' {wanted}.")
        if self.ref is None and (self.weights is None or self.sha256 is not None):
            raise ContractError(
                f"GraphSource '{self.kind}' has no ref: it must name the weights that are the graph, and no sha256."
            )


MIDDLE = frozenset({"bottom", "center", "chin", "lip", "lower", "mouth", "nose", "tip", "top", "upper"})
"""Words for what lies in the middle of a face, and is its own counterpart in a mirror."""


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


def fixed_run(input: TensorSpec) -> int:  # noqa: A002 - as the field of the record is called
    """Return the pixels of the smallest run of a network, batch included, by what its input fixes."""
    batch, _, *sides = input.dims
    size = [side for side in sides if isinstance(side, int)]
    return (batch if isinstance(batch, int) else 1) * (math.prod(size) if size else least_run(None))


def _is_size(value: object) -> bool:
    return value is None or (
        isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side >= 1 for side in value)
    )


@frozen(kw_only=True)
class DetectDefaults:
    """What a detector uses where the user says nothing.

    Args:
        score_threshold: a face must score at least this; in [0, 1].
        iou_threshold: of two boxes that overlap more than this, NMS drops the lower-scoring; in [0, 1].
        merge: what becomes of boxes that overlap: ``"nms"``, ``"vote"``, or ``"blend"`` for a network that was made for
            their mean, as BlazeFace; see :func:`polyface.pipeline.merging.merge_faces`.
        pre_nms_top_k: at most so many boxes of a view go into NMS, the highest-scoring. Where there were more, the
            result says that it is ``truncated``.
        post_nms_top_k: at most so many faces come back; ``None``, the default, is all of them. Likewise.
        infer_size: height and width of the network's input, in pixels, unless the user sets it, or ``max_side``,
            ``scales``, ``tile`` or ``preset``; ``None`` leaves each image its size.
        fit: how an image fills ``infer_size``: ``"letterbox"`` or ``"stretch"``.
    """

    score_threshold: float = field(default=0.5, validator=rules.between(0, 1))
    iou_threshold: float = field(default=0.4, validator=rules.between(0, 1))
    merge: str = field(default="nms", validator=rules.one_of("nms", "vote", "blend"))
    pre_nms_top_k: int = field(default=5000, validator=rules.count)
    post_nms_top_k: int | None = field(default=None, validator=attrs.validators.optional(rules.count))
    infer_size: tuple[int, int] | None = field(
        default=None,
        converter=rules.as_tuple,
        validator=rules.rule("None, or a height and a width of at least 1", _is_size),
    )
    fit: str = field(default="letterbox", validator=rules.one_of("letterbox", "stretch"))


def _is_input(value: object) -> bool:
    dims = value.dims if isinstance(value, TensorSpec) else ()
    return len(dims) == 4 and dims[1] == 3 and type(dims[2]) is type(dims[3])


def _is_range_of_sizes(value: object) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(map(rules.is_number, value))
        and 0 < 12 * value[0] <= value[1]
    )


@frozen(kw_only=True)
class DetectorSpec:
    """A face detector.

    Args:
        name: how users select it.
        summary: one line for the tables.
        graph_version: raised whenever the network's outputs change for the same weights; part of an artifact's key.
        input: the network's one input, ``(n, 3, h, w)``. With a number in the place of ``"h"`` and ``"w"`` every image
            is brought to that size, as ``fit`` of the defaults says; with one in the place of ``"n"`` each run is of so
            many images.
        outputs: the network's raw heads, in order; their first axis is that of the input.
        preprocess: how an image becomes the input.
        head: a class or function that returns a :class:`polyface.plugins.protocols.Head`.
        head_options: what ``head`` is called with, by name: values of options, or tuples of such.
        graphs: the forms in which the network is published, preferred first.
        weights: the files of weights, the default first; empty when the builder needs none.
        landmarks: the names of the landmarks, in order; empty when it gives none.
        mirrored: the pairs of landmarks that change places in a mirror, such as ``("eye_l", "eye_r")``. May be left out
            where the names tell: words joined by ``_``, where ``left_eye`` goes with ``right_eye``, and ``mouth_left``
            with ``mouth_right``, and all others are made of ``MIDDLE``.
        keep_float: which layers a quantiser must leave in float, as patterns for the names of their weights, such as
            ``"body.stage1.*"``; found by measuring what each costs in accuracy. ``"*"`` where it bears no 8 bits.
        defaults: thresholds and limits where the user says nothing.
        min_side: height and width are padded to this at least, in pixels.
        face_sizes: the smallest and the largest face that the network sees well: the longer side, in pixels of its
            input; found by measuring. The largest is at least twelve times the smallest. Larger faces are looked for in
            shrunken views. ``None`` is for a network that sees faces of every size.
        run_pixels: a run of the network takes at most so many pixels of its input, batch included: what bounds memory.
            An image of more is seen in overlapping tiles. At least 256x256 for each image of a fixed batch, or what the
            input is fixed to, and enough for tiles that share a face of the largest size.
        references: papers and repositories.
    """

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    graph_version: int = field(validator=rules.count)
    input: TensorSpec = field(
        validator=rules.rule(
            "a TensorSpec of dims (n, 3, height, width), height and width both fixed or both free (a converter can "
            "turn around what takes channels last)",
            _is_input,
        )
    )
    outputs: tuple[TensorSpec, ...] = field(converter=rules.as_tuple, validator=rules.tuple_of(TensorSpec))
    preprocess: Preprocess = field(validator=rules.is_a(Preprocess))
    head: Ref = field(validator=rules.is_a(Ref))
    head_options: tuple[tuple[str, Any], ...] = field(
        default=(), converter=rules.as_table, validator=rules.rule("a table of names and plain values", rules.is_table)
    )
    graphs: tuple[GraphSource, ...] = field(converter=rules.as_tuple, validator=rules.tuple_of(GraphSource))
    weights: tuple[WeightsFile, ...] = rules.tuples(WeightsFile)
    landmarks: tuple[str, ...] = rules.tuples(str)
    mirrored: tuple[tuple[str, str], ...] | None = field(default=None, converter=rules.as_pairs, validator=rules.pairs)
    keep_float: tuple[str, ...] = rules.tuples(str)
    defaults: DetectDefaults = field(factory=DetectDefaults, validator=rules.is_a(DetectDefaults))
    min_side: int = field(default=32, validator=rules.count)
    face_sizes: tuple[float, float] | None = field(
        default=None,
        converter=rules.as_tuple,
        validator=rules.rule(
            "None, or the smallest and the largest face in pixels, at least twelve times as large", _is_range_of_sizes
        ),
    )
    run_pixels: int = field(default=2048 * 2048, validator=rules.count)
    references: tuple[str, ...] = rules.tuples(str)

    def __attrs_post_init__(self) -> None:
        known = {file.name for file in self.weights}
        fixed = fixed_run(self.input)
        for wrong, what in (
            (not self.outputs, "has no outputs"),
            (not self.graphs, "publishes no graph"),
            (len({o.name for o in self.outputs}) < len(self.outputs), "has two outputs of one name"),
            (len(known) < len(self.weights), "has two files of weights of one name"),
            (
                any(g.weights is not None and g.weights not in known for g in self.graphs),
                "has a graph made from weights it does not list",
            ),
            (
                any(output.dims[:1] != self.input.dims[:1] for output in self.outputs),
                f"has an output without the batch axis, {self.input.dims[0]!r}, first",
            ),
            (
                any(size and self.legal_size(size) != size for size in (self.fixed_size, self.defaults.infer_size)),
                "has a fixed or default size under min_side, or that is no multiple of the stride",
            ),
            (
                self.fixed_size and self.defaults.infer_size not in (None, self.fixed_size),
                "has an infer_size among its defaults that is not that of its input",
            ),
            (self.run_pixels < least_run(self.face_sizes), "has run_pixels for tiles that share no face of its sizes"),
            (
                fixed > self.run_pixels,
                f"fixes its input to {fixed:,} pixels a run at least, batch included, and its run_pixels, which bound "
                f"memory, are {self.run_pixels:,} (export it with a free batch, or a smaller input)",
            ),
            (len(set(self.landmarks)) < len(self.landmarks), "has two landmarks of one name"),
        ):
            if wrong:
                raise ContractError(f"DetectorSpec '{self.name}' {what}.")
        self.mirrored_places  # noqa: B018 - raises where the landmarks cannot be paired

    @property
    def mirrored_places(self) -> tuple[int, ...]:
        """The index, for each landmark, of the one that takes its place in a mirror, as left for right.

        Raises:
            ContractError: ``mirrored`` does not fit the landmarks, or is left out though their names do not tell.
        """
        if self.mirrored is None:
            pairs = [(name, _in_mirror(name)) for name in self.landmarks]
        else:
            declared = [*self.mirrored, *((right, left) for left, right in self.mirrored)]
            pairs = [*declared, *((name, name) for name in self.landmarks if name not in dict(declared))]
        names, others = [name for name, _ in pairs], {other for _, other in pairs}
        if sorted(names) != sorted(self.landmarks) or others != {*names}:
            raise ContractError(
                f"DetectorSpec '{self.name}' does not tell which landmarks change places in a mirror.",
                why=[f"landmarks: {', '.join(self.landmarks)}", f"mirrored: {self.mirrored}"],
                fix='declare each pair, once, as mirrored=(("left_eye", "right_eye"),); () where none do',
            )
        partners = dict(pairs)
        return tuple(self.landmarks.index(partners[name] or name) for name in self.landmarks)

    @property
    def fixed_batch(self) -> int | None:
        """How many images each run takes, where that is fixed."""
        batch = self.input.dims[0]
        return batch if isinstance(batch, int) else None

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width of each input, in pixels, where they are fixed."""
        height, width = self.input.dims[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def least_input(self) -> tuple[int, int, int, int]:
        """The shape of the smallest input that the network takes."""
        return (self.fixed_batch or 1, 3, *(self.fixed_size or self.legal_size((1, 1))))

    def legal_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width by stride and ``min_side`` that are nearest; of two equally near, the larger."""
        stride = self.preprocess.stride
        smallest = math.ceil(self.min_side / stride) * stride
        height, width = (max(smallest, (side + stride // 2) // stride * stride) for side in size)
        return height, width

    def make_head(self) -> Any:
        """Return what its ``head`` gives, called with its ``head_options``."""
        return self.head.load()(**dict(self.head_options))


def _in_mirror(name: str) -> str | None:
    """The landmark that takes the place of this one in a mirror, as the words of its name tell, if they do."""
    words = name.split("_")
    other = "_".join({"left": "right", "right": "left"}.get(word, word) for word in words)
    return other if other != name or MIDDLE.issuperset(words) else None


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

    device: str = field(validator=rules.matches("a kind of device without an index, such as 'cuda'", r"[a-z]+"))
    precisions: tuple[str, ...] = field(
        default=("fp32",), converter=rules.as_tuple, validator=[rules.tuple_of(str), rules.rule("not empty", bool)]
    )
    accepts: tuple[str, ...] = rules.tuples(str)
    note: str = field(
        default="", validator=rules.rule("a line of text", lambda v: isinstance(v, str) and "\n" not in v)
    )
    driver: tuple[str, ...] = rules.tuples(str)


@frozen(kw_only=True)
class OptionSpec:
    """An option of a backend, a family, a source, a step or a writer, which core checks before the plugin sees it.

    Args:
        name: the key under ``backend_options`` or ``family_options``; of the others, what a command calls its option.
        type: ``"bool"``, ``"int"``, ``"float"``, ``"str"``, ``"numbers"`` for a tuple of numbers, or ``"lists of
            numbers"`` for a tuple of such tuples.
        help: one line.
        default: the value where the user says nothing.
        minimum: the least value of a number.
        maximum: the greatest value of a number.
        choices: the values allowed, when they are few.
    """

    name: str = field(validator=rules.name)
    type: str = field(validator=rules.one_of(*_OPTION_TYPES, *_LISTS))
    help: str = field(validator=rules.text)
    default: OptionValue | None = field(default=None, converter=rules.freeze)
    minimum: float | None = field(default=None, validator=attrs.validators.optional(rules.number))
    maximum: float | None = field(default=None, validator=attrs.validators.optional(rules.number))
    choices: tuple[OptionValue, ...] = rules.tuples(bool, int, float, str)

    def __attrs_post_init__(self) -> None:
        problem = None if self.default is None else self.problem(self.default)
        if problem:
            raise ContractError(f"OptionSpec '{self.name}': the default {problem}.")

    def problem(self, value: object) -> str | None:
        """Return what is wrong with ``value``, as the end of a sentence, or ``None``."""
        if self.type in _LISTS:
            parts = value if isinstance(value, tuple) else ()
            lists = parts if self.type != "numbers" else (parts,)
            plain = all(isinstance(part, tuple) and part and {*map(type, part)} <= {int, float} for part in lists)
            kind = f"{self.type} that float32 can hold" if parts and plain else self.type
            return None if parts and plain and rules.is_plain(value) else f"must be {kind}, not {quoted(value)}"
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


def _check_arguments(record: Any, options: tuple[OptionSpec, ...]) -> None:
    """Refuse options that no code can take by name."""
    for option in options:
        if not option.name.isidentifier():
            raise ContractError(
                f"{type(record).__name__} '{record.name}': no argument can be called {quoted(option.name)}."
            )


@frozen(kw_only=True)
class FamilySpec:
    """A kind of network that a user's own ONNX file may hold: how the raw heads of every such file are read.

    Args:
        name: how users select it.
        summary: one line for the tables.
        parameters: what the file does not say, as ``family_options`` hold it.
        describe: a function that is called with the :class:`polyface.plugins.protocols.Interface` of a file, and with
            the parameters by name; returns the file's :class:`DetectorSpec`. Raises the interface's ``misfit`` where
            the file holds no such network, and :class:`polyface.ConfigError` where a parameter is wrong.
    """

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    parameters: tuple[OptionSpec, ...] = rules.tuples(OptionSpec)
    describe: Ref = field(validator=rules.is_a(Ref))

    def __attrs_post_init__(self) -> None:
        _check_arguments(self, self.parameters)


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

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    accepts: tuple[str, ...] = field(
        converter=rules.as_tuple, validator=[rules.tuple_of(str), rules.rule("at least one graph kind", bool)]
    )
    capabilities: tuple[Capability, ...] = field(
        converter=rules.as_tuple, validator=[rules.tuple_of(Capability), rules.rule("at least one device", bool)]
    )
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)
    factory: Ref = field(validator=rules.is_a(Ref))
    options: tuple[OptionSpec, ...] = rules.tuples(OptionSpec)
    preference: int = field(default=0, validator=rules.is_a(int))
    trim: bool = field(default=False, validator=rules.is_a(bool))

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

    source: str = field(validator=rules.name)
    target: str = field(validator=rules.name)
    calibrated: bool = field(default=False, validator=rules.is_a(bool))
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)
    factory: Ref = field(validator=rules.is_a(Ref))

    @property
    def name(self) -> str:
        """``"source-to-target"``, for messages and tables."""
        return f"{self.source}-to-{self.target}"


@frozen(kw_only=True)
class WriterSpec:
    """A way to write results: ``--output`` and :func:`polyface.jobs.run.run` select it.

    Args:
        name: how users select it.
        summary: one line for the tables.
        writes: ``"file"`` or ``"folder"``.
        endings: the ends of file names that select it, such as ``".csv"``; none for one that fills a folder.
        commands: the commands that it is for, such as ``("anonymize",)``: these alone show its options, and it is
            selected there alone without its name, by an ending, or as what fills a folder. Without any it is for every
            command, and fills no folder but by its name.
        wants_image: each result that it gets has its image.
        makes: of one that fills a folder, the key that each result gets from it, such as ``"drawing"``; a folder whose
            lines lack it was filled by another, and is not gone on with.
        options: what its factory takes by name; each has a default, or is ``None`` where nothing is said.
        requires: what must be installed for it.
        factory: called with a :class:`polyface.storage.places.Place`, and with the options by name; returns a
            :class:`polyface.plugins.protocols.Writer`.
    """

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    writes: str = field(default="file", validator=rules.one_of("file", "folder"))
    endings: tuple[str, ...] = rules.tuples(str, rule=rules.endings)
    commands: tuple[str, ...] = rules.tuples(str)
    wants_image: bool = field(default=False, validator=rules.is_a(bool))
    makes: str = field(default="", validator=rules.is_a(str))
    options: tuple[OptionSpec, ...] = rules.tuples(OptionSpec)
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)
    factory: Ref = field(validator=rules.is_a(Ref))

    def __attrs_post_init__(self) -> None:
        if self.writes == "folder" and self.endings:
            raise ContractError(f"WriterSpec '{self.name}': one that fills a folder has no endings.")
        _check_arguments(self, self.options)

    def is_for(self, command: str) -> bool:
        """Return whether it is for a command, with others or alone."""
        return not self.commands or command in self.commands


@frozen(kw_only=True)
class SourceSpec:
    """A way to find images: what a user names selects it by how it begins or ends.

    Args:
        name: what it is called.
        summary: one line for the tables.
        prefixes: beginnings that select it, such as ``"rtsp://"``.
        endings: the ends of file names that select it, such as ``".mp4"``.
        options: what its factory takes by name; each has a default, or is ``None`` where nothing is said. The commands
            ``detect``, ``crop`` and ``anonymize`` show them.
        requires: what must be installed for it.
        factory: called with what the user gave, a text, with a :class:`polyface.plugins.protocols.Search`, and with the
            options by name; returns a :class:`polyface.plugins.protocols.Source`.
    """

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    prefixes: tuple[str, ...] = rules.tuples(
        str,
        rule=rules.rule(
            "a sequence of texts that are not empty",
            lambda value: isinstance(value, tuple) and all(isinstance(part, str) and part for part in value),
        ),
    )
    endings: tuple[str, ...] = rules.tuples(str, rule=rules.endings)
    options: tuple[OptionSpec, ...] = rules.tuples(OptionSpec)
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)
    factory: Ref = field(validator=rules.is_a(Ref))

    def __attrs_post_init__(self) -> None:
        _check_arguments(self, self.options)


@frozen(kw_only=True)
class StepSpec:
    """What stands between the detector and the writers of a job, such as a tracker. Steps follow each other as listed.

    Args:
        name: what it is called.
        summary: one line for the tables.
        options: what its factory takes by name; the commands ``detect``, ``crop`` and ``anonymize`` show them. An
            option that has the name of one of a source or a writer is the same option, given to both.
        on: the names of its options that turn it on, where one is given and is not ``False``.
        requires: what must be installed for it.
        factory: called with the options by name; returns a :class:`polyface.plugins.protocols.Step`.
    """

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    options: tuple[OptionSpec, ...] = rules.tuples(OptionSpec)
    on: tuple[str, ...] = field(
        converter=rules.as_tuple, validator=[rules.tuple_of(str), rules.rule("at least one option", bool)]
    )
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)
    factory: Ref = field(validator=rules.is_a(Ref))

    def __attrs_post_init__(self) -> None:
        _check_arguments(self, self.options)
        if unknown := set(self.on) - {option.name for option in self.options}:
            raise ContractError(f"StepSpec '{self.name}' has no option {', '.join(map(quoted, sorted(unknown)))}.")


@frozen(kw_only=True)
class CommandSpec:
    """A command of ``polyface``.

    Args:
        name: as it is typed.
        summary: one line for ``polyface --help``.
        requires: what must be installed for it.
        command: a :class:`click.Command`.
    """

    name: str = field(validator=rules.name)
    summary: str = field(validator=rules.text)
    requires: tuple[Requirement, ...] = rules.tuples(Requirement)
    command: Ref = field(validator=rules.is_a(Ref))


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as dictionaries, tuples, strings and numbers, ready for ``json.dumps``."""

    def plain(_record: Any, _attribute: Any, value: Any) -> Any:
        return value.target if isinstance(value, Ref | FileRef) else value

    result: dict[str, Any] = attrs.asdict(record, value_serializer=plain)
    return result
