"""Records: what they refuse, and that they stay plain values."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs
import pytest

from polyface.errors import ContractError
from polyface.plugins.records import (
    BackendSpec,
    Capability,
    ConverterSpec,
    DetectDefaults,
    FamilySpec,
    FileRef,
    GraphSource,
    OptionSpec,
    Preprocess,
    Ref,
    Requirement,
    SourceSpec,
    StepSpec,
    TensorSpec,
    WriterSpec,
    as_json,
)

NAME_RULE = "lower-case letters, digits, '.', '_' or '-', starting with a letter or digit"


@pytest.fixture
def records(detector_spec, backend_spec, converter_spec, weights_file):
    strides = OptionSpec(name="strides", type="numbers", help="Strides.", default=[8, 16])
    family = FamilySpec(name="toys", summary="Toys", parameters=[strides], describe=Ref("toy_faces:describe"))
    tuned = attrs.evolve(detector_spec, head_options={"anchors": [[16, 32], [64]], "names": ("loc",), "clip": True})
    return [detector_spec, tuned, backend_spec, converter_spec, family, weights_file, DetectDefaults()]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package ``spare_parts`` with one data file."""
    folder = tmp_path / "spare_parts"
    folder.mkdir()
    (folder / "__init__.py").write_text("class Wheel:\n    size = 7\n")
    (folder / "data").mkdir()
    (folder / "data" / "numbers.bin").write_bytes(b"123")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("spare_parts", None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ref("torch.nn"), "Ref.target must be of the form 'package.module:attribute', not 'torch.nn'."),
        (lambda: Ref("a-b:c"), "Ref.target must be of the form 'package.module:attribute', not 'a-b:c'."),
        (lambda: Ref("a:b()"), "Ref.target must be of the form 'package.module:attribute', not 'a:b()'."),
        (lambda: FileRef("pkg:/etc/passwd"), "FileRef.target must be of the form 'package:folder/file', not "),
        (lambda: Requirement(module="", install="x"), "Requirement.module must be a line of text, not ''."),
        (lambda: Requirement(module="a\nb", install="x"), r"Requirement.module must be a line of text, not 'a\nb'."),
        (
            lambda: TensorSpec(name="x", dims="nchw"),
            "TensorSpec.dims must be a sequence of sizes of at least 1 and names, not 'nchw'.",
        ),
        (
            lambda: TensorSpec(name="x", dims=(1.5,)),
            "TensorSpec.dims must be a sequence of sizes of at least 1 and names, not (1.5,).",
        ),
        (
            lambda: TensorSpec(name="x", dims=(), dtype="float16"),
            "TensorSpec.dtype must be 'float32', not 'float16'.",
        ),
        (
            lambda: Preprocess(channels="rbg", mean=(0, 0, 0)),
            "Preprocess.channels must be 'rgb' or 'bgr', not 'rbg'.",
        ),
        (lambda: Preprocess(channels="rgb", mean=(0, 0)), "Preprocess.mean must be three finite numbers, not (0, 0)."),
        (
            lambda: Preprocess(channels="rgb", mean=(0, 0, True)),
            "Preprocess.mean must be three finite numbers, not (0, 0, True).",
        ),
        (
            lambda: Preprocess(channels="rgb", mean=(0, 0, 0), std=(1, 0, 1)),
            "Preprocess.std must be without a zero, not (1, 0, 1).",
        ),
        (
            lambda: Preprocess(channels="rgb", mean=(0, 0, 0), stride=0),
            "Preprocess.stride must be a whole number of at least 1, not 0.",
        ),
        (
            lambda: Preprocess(channels="rgb", mean=(0, 0, 0), pad_value="0"),
            "Preprocess.pad_value must be one or three finite numbers, not '0'.",
        ),
        (
            lambda: GraphSource(kind="Onnx", ref=Ref("a:b")),
            f"GraphSource.kind must be {NAME_RULE}, not 'Onnx'.",
        ),
        (lambda: GraphSource(kind="onnx", ref="a:b"), "GraphSource.ref must be a Ref or a FileRef or None, not 'a:b'."),
        (
            lambda: GraphSource(kind="onnx", ref=FileRef("a:b.onnx")),
            "GraphSource 'onnx' names the file 'a:b.onnx' without its sha256.",
        ),
        *(
            (
                lambda kind=kind: GraphSource(kind=kind, ref=Ref("a:b")),
                f"A GraphSource of the kind '{kind}' is a file: its ref is a FileRef, or none.",
            )
            for kind in ("onnx", "onnx-file", "onnx-int8")
        ),
        *(
            (
                lambda known=known: GraphSource(kind="torch-module", weights="wider", **known),
                "A GraphSource of the kind 'torch-module' is built: its ref is a Ref.",
            )
            for known in ({}, {"ref": FileRef("a:b.pt"), "sha256": "ab" * 32})
        ),
        (
            lambda: DetectDefaults(infer_size=(640, 0)),
            "DetectDefaults.infer_size must be None, or a height and a width of at least 1, not (640, 0).",
        ),
        (lambda: DetectDefaults(fit="fill"), "DetectDefaults.fit must be 'letterbox' or 'stretch', not 'fill'."),
        *(
            (
                lambda known=known: GraphSource(kind="onnx", **known),
                "GraphSource 'onnx' has no ref: it must name the weights that are the graph, and no sha256.",
            )
            for known in ({}, {"weights": "wider", "sha256": "ab" * 32})
        ),
        (
            lambda: DetectDefaults(score_threshold=1.5),
            "DetectDefaults.score_threshold must be a number from 0 to 1, not 1.5.",
        ),
        (
            lambda: DetectDefaults(iou_threshold=float("nan")),
            "DetectDefaults.iou_threshold must be a number from 0 to 1, not nan.",
        ),
        (
            lambda: DetectDefaults(pre_nms_top_k=True),
            "DetectDefaults.pre_nms_top_k must be a whole number of at least 1, not True.",
        ),
        (
            lambda: Capability(device="cuda:0"),
            "Capability.device must be a kind of device without an index, such as 'cuda', not 'cuda:0'.",
        ),
        (lambda: Capability(device="cpu", precisions=()), "Capability.precisions must be not empty, not ()."),
        (
            lambda: FamilySpec(
                name="f", summary="s", describe=Ref("a:b"), parameters=[OptionSpec(name="a-b", type="int", help="h")]
            ),
            "FamilySpec 'f': no argument can be called 'a-b'.",
        ),
        (
            lambda: WriterSpec(
                name="w", summary="s", factory=Ref("a:b"), options=[OptionSpec(name="a-b", type="int", help="h")]
            ),
            "WriterSpec 'w': no argument can be called 'a-b'.",
        ),
        (
            lambda: SourceSpec(
                name="v", summary="s", factory=Ref("a:b"), options=[OptionSpec(name="a-b", type="int", help="h")]
            ),
            "SourceSpec 'v': no argument can be called 'a-b'.",
        ),
        (
            lambda: StepSpec(
                name="t", summary="s", factory=Ref("a:b"), on=(), options=[OptionSpec(name="t", type="bool", help="h")]
            ),
            "StepSpec.on must be at least one option, not ().",
        ),
        (
            lambda: StepSpec(name="t", summary="s", factory=Ref("a:b"), on=("track",)),
            "StepSpec 't' has no option 'track'.",
        ),
        (
            lambda: OptionSpec(name="threads", type="integer", help="h"),
            "OptionSpec.type must be 'bool' or 'int' or 'float' or 'str' or 'numbers' or 'lists of numbers', "
            "not 'integer'.",
        ),
        (
            lambda: TensorSpec(name="x", dims=(True, -5)),
            "TensorSpec.dims must be a sequence of sizes of at least 1 and names, not (True, -5).",
        ),
        (
            lambda: Preprocess(channels="rgb", mean=(float("nan"), 0, 0)),
            "Preprocess.mean must be three finite numbers, not (nan, 0, 0).",
        ),
        (
            lambda: OptionSpec(name="o", type="int", help="h", minimum="three"),
            "OptionSpec.minimum must be a finite number, not 'three'.",
        ),
        (
            lambda: OptionSpec(name="o", type="int", help="h", choices=[[1]]),
            "OptionSpec.choices must be a sequence of bool or int or float or str, not ([1],).",
        ),
        (
            lambda: OptionSpec(name="threads", type="int", help="h", default=9, maximum=8),
            "OptionSpec 'threads': the default must be at most 8, not 9.",
        ),
        (
            lambda: OptionSpec(name="threads", type="int", help="h", default=0, minimum=1),
            "OptionSpec 'threads': the default must be at least 1, not 0.",
        ),
        (
            lambda: BackendSpec(name="b", summary="s", accepts=(), capabilities=(), factory=Ref("a:b")),
            "BackendSpec.accepts must be at least one graph kind, not ().",
        ),
        (
            lambda: BackendSpec(name="b", summary="s", accepts=["onnx"], capabilities=(), factory=Ref("a:b")),
            "BackendSpec.capabilities must be at least one device, not ().",
        ),
        (
            lambda: ConverterSpec(source="a", target="b", factory=None),
            "ConverterSpec.factory must be a Ref, not None.",
        ),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(make, message):
    with pytest.raises(ContractError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Face Finder"}, f"DetectorSpec.name must be {NAME_RULE}, not 'Face Finder'."),
        ({"graph_version": 0}, "DetectorSpec.graph_version must be a whole number of at least 1, not 0."),
        ({"outputs": ()}, "DetectorSpec 'toy' has no outputs."),
        (
            {"face_sizes": (100, 1199)},
            "DetectorSpec.face_sizes must be None, or the smallest and the largest face in pixels, at least twelve "
            "times as large, not (100, 1199).",
        ),
        # Tiles of 2.5 * 512 + 32 = 1312 pixels
        (
            {"face_sizes": (32, 512), "run_pixels": 1312 * 1312 - 1},
            "DetectorSpec 'toy' has run_pixels for tiles that share no face of its sizes.",
        ),
        ({"run_pixels": 65535}, "DetectorSpec 'toy' has run_pixels for tiles that share no face of its sizes."),
        ({"graphs": ()}, "DetectorSpec 'toy' publishes no graph."),
        (
            {"graphs": [GraphSource(kind="onnx", weights="gone")]},
            "DetectorSpec 'toy' has a graph made from weights it does not list.",
        ),
        *(
            (
                {"input": TensorSpec(name="image", dims=dims)},
                "DetectorSpec.input must be a TensorSpec of dims (n, 3, height, width), height and width both fixed or "
                "both free (a converter can turn around what takes channels last), "
                f"not TensorSpec(name='image', dims={dims}, dtype='float32').",
            )
            for dims in (("n", "h", "w", 3), ("n", 1, "h", "w"), ("n", 3, "p"), (), ("n", 3, 480, "w"))
        ),
        *(
            (
                {"outputs": [TensorSpec(name="heads", dims=dims)]},
                "DetectorSpec 'toy' has an output without the batch axis, 'n', first.",
            )
            for dims in (("p", 5), (1, "p", 5), ())
        ),
        (
            {"input": TensorSpec(name="image", dims=(2, 3, "h", "w"))},
            "DetectorSpec 'toy' has an output without the batch axis, 2, first.",
        ),
        *(
            (
                changes,
                "DetectorSpec 'toy' has a fixed or default size under min_side, or that is no multiple of the stride.",
            )
            for changes in (
                {"input": TensorSpec(name="image", dims=("n", 3, 16, 32))},
                {"defaults": DetectDefaults(infer_size=(31, 32))},
                {
                    "defaults": DetectDefaults(infer_size=(40, 48)),
                    "preprocess": Preprocess(channels="rgb", mean=(0, 0, 0), stride=16),
                },
            )
        ),
        (
            {
                "input": TensorSpec(name="image", dims=("n", 3, 64, 64)),
                "defaults": DetectDefaults(infer_size=(64, 32)),
            },
            "DetectorSpec 'toy' has an infer_size among its defaults that is not that of its input.",
        ),
        *(
            (
                {
                    "input": TensorSpec(name="image", dims=dims),
                    "outputs": [TensorSpec(name="heads", dims=(dims[0], "p", 5))],
                },
                f"DetectorSpec 'toy' fixes its input to {pixels} pixels a run at least, batch included, and its "
                "run_pixels, which bound memory, are 4,194,304 (export it with a free batch, or a smaller input).",
            )
            for dims, pixels in (
                ((10**9, 3, 240, 320), "76,800,000,000,000"),
                (("n", 3, 2080, 2080), "4,326,400"),
                ((65, 3, "h", "w"), "4,259,840"),
            )
        ),
        ({"outputs": [TensorSpec(name="a", dims=())] * 2}, "DetectorSpec 'toy' has two outputs of one name."),
        (
            {"graphs": [GraphSource(kind="numpy", ref=Ref("a:b"), weights="gone")]},
            "DetectorSpec 'toy' has a graph made from weights it does not list.",
        ),
        ({"landmarks": "left"}, "DetectorSpec.landmarks must be a sequence of str, not 'left'."),
    ],
)
def test_a_detector_that_contradicts_itself_is_refused(detector_spec, changes, message):
    with pytest.raises(ContractError) as caught:
        attrs.evolve(detector_spec, **changes)
    assert str(caught.value) == message


def test_a_detector_with_two_weights_of_one_name_is_refused(detector_spec, weights_file):
    with pytest.raises(ContractError, match=r"^DetectorSpec 'toy' has two files of weights of one name.$"):
        attrs.evolve(detector_spec, weights=[weights_file, attrs.evolve(weights_file, filename="other.pth")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename": "../wider.pth"}, "WeightsFile.filename must be a plain file name, not '../wider.pth'."),
        ({"filename": ".."}, "WeightsFile.filename must be a plain file name, not '..'."),
        ({"sha256": "AB" * 32}, f"WeightsFile.sha256 must be 64 lower-case hexadecimal digits, not '{'AB' * 32}'."),
        ({"size": 0}, "WeightsFile.size must be a whole number of at least 1, not 0."),
        ({"license": " "}, "WeightsFile.license must be a line of text, not ' '."),
        ({"research_only": "yes"}, "WeightsFile.research_only must be a bool, not 'yes'."),
        ({"urls": "https://x"}, "WeightsFile.urls must be a sequence of str, not 'https://x'."),
        ({"urls": ()}, "WeightsFile 'wider' has neither a ref nor urls: there is no way to get it."),
    ],
)
def test_a_wrong_file_of_weights_is_refused(weights_file, changes, message):
    with pytest.raises(ContractError) as caught:
        attrs.evolve(weights_file, **changes)
    assert str(caught.value) == message


def test_every_record_is_hashable_and_equal_to_its_copy(records):
    for record in records:
        assert attrs.evolve(record) == record
        assert hash(attrs.evolve(record)) == hash(record)


def test_every_record_is_frozen(records):
    for record in records:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, attrs.fields(type(record))[0].name, None)


EYES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
CORNERS = tuple(f"{eye}_eye_{corner}_corner" for eye in ("left", "right") for corner in ("left", "right"))


class TestMirror:
    @pytest.mark.parametrize(
        ("names", "pairs", "places"),
        [
            (EYES, None, (1, 0, 2, 4, 3)),
            (("left", "right"), None, (1, 0)),
            ((*CORNERS, "chin"), None, (3, 2, 1, 0, 4)),
            (("nose_tip", "upper_lip"), None, (0, 1)),
            ((), None, ()),
            (("p0", "p1", "p2"), [["p2", "p0"]], (2, 1, 0)),
            (("leftEye", "rightEye"), (), (0, 1)),
            (EYES, [("left_eye", "mouth_left")], (3, 1, 2, 0, 4)),
        ],
    )
    def test_landmarks_are_paired_by_the_words_of_their_names_or_as_declared(self, detector_spec, names, pairs, places):
        assert attrs.evolve(detector_spec, landmarks=names, mirrored=pairs).mirrored_places == places

    @pytest.mark.parametrize(
        ("names", "pairs"),
        [
            (("leftEye", "rightEye", "nose"), None),
            (("left_eye", "nose"), None),
            (("eye_l", "eye_r"), None),
            (("p0", "p1"), None),
            (("cleft", "bright"), None),
            (("a", "b"), [("a", "c")]),
            (("a", "b", "c"), [("a", "b"), ("b", "c")]),
            (("a", "b"), [("a", "a")]),
            (("a", "b"), [("a", "b"), ("b", "a")]),
        ],
    )
    def test_landmarks_that_cannot_be_paired_for_certain_are_refused(self, detector_spec, names, pairs):
        with pytest.raises(ContractError, match="does not tell which landmarks change places in a mirror") as caught:
            attrs.evolve(detector_spec, landmarks=names, mirrored=pairs)
        assert "declare each pair" in str(caught.value.fix)

    @pytest.mark.parametrize("pairs", [5, "ab", ["ab"], [("a", "b", "c")], [("a", 1)]])
    def test_what_are_no_pairs_are_refused(self, detector_spec, pairs):
        with pytest.raises(ContractError, match=r"DetectorSpec\.mirrored must be None, or pairs of names, not"):
            attrs.evolve(detector_spec, mirrored=pairs)


def test_lists_become_tuples(detector_spec):
    assert attrs.evolve(detector_spec, landmarks=["nose", "chin"]).landmarks == ("nose", "chin")


@pytest.mark.parametrize("options", [{"a-b": 1}, {1: 2}, {"a": None}, {"a": {"b": 1}}, {"a": float("nan")}, "ab", 3])
def test_options_of_a_head_are_a_table_of_plain_values(detector_spec, options):
    with pytest.raises(ContractError, match=r"^DetectorSpec.head_options must be a table of names and plain values"):
        attrs.evolve(detector_spec, head_options=options)


def test_a_head_is_made_with_its_options(detector_spec, package):
    (package / "__init__.py").write_text(
        "class Head:\n    def __init__(self, strides=()):\n        self.it = strides\n"
    )
    spec = attrs.evolve(detector_spec, head=Ref("spare_parts:Head"))
    assert spec.make_head().it == ()
    assert attrs.evolve(spec, head_options={"strides": [8, 16]}).make_head().it == (8, 16)


def test_every_record_is_plain_json(records):
    for record in records:
        assert set(json.loads(json.dumps(as_json(record)))) == {field.name for field in attrs.fields(type(record))}


def test_a_ref_is_its_target_in_json(detector_spec, weights_file):
    packaged = attrs.evolve(weights_file, ref=FileRef("toy_faces:wider.pth"))
    plain = as_json(attrs.evolve(detector_spec, weights=[packaged]))
    assert plain["head"] == "toy_faces:Head"
    assert plain["graphs"][0]["ref"] == "toy_faces.net:build"
    assert plain["weights"][0]["ref"] == "toy_faces:wider.pth"


def test_a_ref_loads_an_attribute_of_an_attribute(package):
    assert Ref("spare_parts:Wheel.size").load() == 7


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("spare_parts:Gone", "AttributeError: module 'spare_parts' has no attribute 'Gone'"),
        ("spare_parts.gone:Wheel", "ModuleNotFoundError: No module named 'spare_parts.gone'"),
    ],
)
def test_a_ref_to_nothing_says_what_is_missing(package, target, why):
    with pytest.raises(ContractError) as caught:
        Ref(target).load()
    assert (caught.value.what, caught.value.why) == (f"'{target}' cannot be loaded.", (why,))


def test_a_file_ref_is_the_path_of_the_packaged_file(package):
    path = FileRef("spare_parts:data/numbers.bin").path()
    assert isinstance(path, Path)
    assert path.read_bytes() == b"123"


@pytest.mark.parametrize("target", ["spare_parts:data/gone.bin", "spare_parts:data"])
def test_a_file_ref_to_no_file_names_the_package_to_reinstall(package, target):
    with pytest.raises(ContractError) as caught:
        FileRef(target).path()
    assert caught.value.what == f"'{target}' cannot be found."
    assert str(caught.value.fix) == "reinstall spare_parts"


def test_a_file_ref_to_no_package_is_a_contract_error():
    with pytest.raises(ContractError, match=r"'no_such_package:file' cannot be found."):
        FileRef("no_such_package:file").path()


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ({"type": "int"}, 3, None),
        ({"type": "int"}, "3", "must be of type int, not '3'"),
        ({"type": "int"}, True, "must be of type int, not True"),
        ({"type": "int"}, 3.0, "must be of type int, not 3.0"),
        ({"type": "float"}, 3, None),
        ({"type": "float"}, True, "must be of type float, not True"),
        ({"type": "bool"}, 1, "must be of type bool, not 1"),
        ({"type": "int", "minimum": 1}, 0, "must be at least 1, not 0"),
        ({"type": "float", "minimum": 0.5}, float("nan"), "must be at least 0.5, not nan"),
        ({"type": "str", "choices": ("a", "b")}, "c", "must be one of 'a', 'b', not 'c'"),
        ({"type": "str", "choices": ("a", "b")}, "b", None),
        ({"type": "numbers"}, (8, 16.5), None),
        ({"type": "numbers"}, (), "must be numbers, not ()"),
        ({"type": "numbers"}, 8, "must be numbers, not 8"),
        ({"type": "numbers"}, (8, "x"), "must be numbers, not (8, 'x')"),
        ({"type": "numbers"}, ((8,),), "must be numbers, not ((8,),)"),
        ({"type": "numbers"}, (3.4028234663852886e38, -(2**-126), 0), None),
        ({"type": "numbers"}, (1e40, 1), "must be numbers that float32 can hold, not (1e+40, 1)"),
        ({"type": "numbers"}, (1, 1e-46), "must be numbers that float32 can hold, not (1, 1e-46)"),
        ({"type": "lists of numbers"}, ((1e40,),), "must be lists of numbers that float32 can hold, not ((1e+40,),)"),
        ({"type": "lists of numbers"}, ((8, 16), (32,)), None),
        ({"type": "lists of numbers"}, (8, 16), "must be lists of numbers, not (8, 16)"),
        ({"type": "lists of numbers"}, ((8,), ()), "must be lists of numbers, not ((8,), ())"),
    ],
)
def test_an_option_says_what_is_wrong_with_a_value(option, value, problem):
    assert OptionSpec(name="o", help="An option.", **option).problem(value) == problem


def test_a_converter_is_named_by_its_two_kinds(converter_spec):
    assert converter_spec.name == "torch-module-to-onnx"
