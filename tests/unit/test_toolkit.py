"""What plugins have in common, each piece by itself; that they use it rightly is their own tests' matter."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest

from polyface.errors import BackendUnavailableError, ClosedError, ConfigError, ContractError, OutOfMemoryError
from polyface.plugins.protocols import Graph, GraphTensor, Interface
from polyface.plugins.records import DetectDefaults, Preprocess, Ref, TensorSpec, WeightsFile
from polyface.plugins.toolkit import (
    Held,
    RenamedHead,
    check_interface,
    describe_like,
    failed_run,
    graph_builder,
    graph_file,
    input_options,
    keeping,
    one_line,
)


class TestHeld:
    def test_it_is_had_until_it_is_closed(self):
        network = object()
        held = Held(network, "Acme")
        assert held.get() is held.get() is network
        held.close()
        with pytest.raises(ClosedError) as caught:
            held.get()
        assert str(caught.value) == "This Acme session is closed.\nTo fix it: create the detector again"

    def test_close_gives_it_back_once(self):
        network = object()
        held = Held(network, "Acme")
        assert held.close() is network
        assert held.close() is None

    def test_what_a_run_got_before_stays(self):
        held = Held([1, 2], "Acme")
        got = held.get()
        held.close()
        assert got == [1, 2]


class TestGraph:
    @pytest.fixture
    def graph(self, detector_spec):
        return lambda source: Graph(kind="onnx", source=source, detector=detector_spec)

    def test_a_file_is_its_path(self, graph):
        assert graph_file(graph(Path("a.onnx"))) == Path("a.onnx")

    def test_a_builder_is_no_file(self, graph):
        with pytest.raises(ContractError) as caught:
            graph_file(graph(Ref("acme.net:build")))
        assert caught.value.what == "The onnx graph of 'toy' must be a file, not the builder acme.net:build."

    def test_a_builder_is_its_ref(self, graph):
        assert graph_builder(graph(Ref("acme.net:build"))) == Ref("acme.net:build")

    def test_a_file_is_no_builder(self, graph):
        with pytest.raises(ContractError) as caught:
            graph_builder(graph(Path("a.onnx")))
        assert caught.value.what == "The onnx graph of 'toy' must be a builder, not the file a.onnx."

    def test_the_declared_interface_passes_in_any_order(self, graph, detector_spec):
        outputs = [f"{tensor.name}: f32" for tensor in reversed(detector_spec.outputs)]
        check_interface(
            graph(Path("a.onnx")), inputs=[f"{detector_spec.input.name}: f32"], outputs=outputs, float32="f32"
        )

    def test_another_interface_is_refused_with_both(self, graph, detector_spec):
        declared = ", ".join(sorted(f"{tensor.name}: f32" for tensor in detector_spec.outputs))
        with pytest.raises(ContractError) as caught:
            check_interface(
                graph(Path("a.onnx")), inputs=[f"{detector_spec.input.name}: f32"], outputs=[], float32="f32"
            )
        assert caught.value.what == "The outputs of a.onnx are not those of the detector 'toy'."
        assert caught.value.why == ("the graph has none", f"the detector declares {declared}")
        assert not caught.value.fix

    def test_a_users_file_with_other_names_may_be_a_detector_itself(self, graph):
        with pytest.raises(ContractError) as caught:
            check_interface(
                attrs.evolve(graph(Path("a.onnx")), trusted=False), inputs=["x: f32"], outputs=[], float32="f32"
            )
        assert str(caught.value.fix) == 'if its names are its own, and not the detector\'s: detector="a.onnx"'


class TestErrors:
    def test_a_page_becomes_a_line_without_the_places(self):
        error = RuntimeError("Exception from src/a.cpp:12:\n  no kernel\nfor  this\n")
        assert one_line(error, "Exception from ") == "RuntimeError: no kernel for this"

    def test_a_long_line_is_cut(self):
        line = one_line(ValueError("word " * 100))
        assert len(line) <= 300
        assert line.endswith(" ...")

    @pytest.mark.parametrize(
        "why",
        [
            "InvalidArgument: Got invalid dimensions for input: image for the following indices index: 3 Got: 96",
            "Fail: The input tensor cannot be reshaped to the requested shape",
            "Fail: Attempting to broadcast an axis by a dimension other than 1. 96 by 97",
            "Fail: Input channels C is not equal to kernel channels * group.",
            "RuntimeError: the model input (shape=[1,3,64,64]) and the tensor (shape=(2.3.64.96)) are incompatible",
        ],
    )
    def test_an_error_of_shapes_says_so_and_nothing_of_memory(self, why):
        error = failed_run("Acme", (2, 3, 64, 96), "cpu", why, memory=False)
        assert (
            error.what == "Acme failed on a batch of shape (2, 3, 64, 96) on cpu: the network does not take that shape."
        )
        assert (error.why, error.fix.names) == ((why,), ("infer_size",))
        assert "memory" not in str(error)

    @pytest.mark.parametrize(("memory", "kind"), [(False, BackendUnavailableError), (True, OutOfMemoryError)])
    def test_a_failed_run_says_on_what_and_why(self, memory, kind):
        error = failed_run("Acme", (1, 3, 8, 16), "cuda:0", "no room", memory=memory)
        assert type(error) is kind
        assert error.summary == "Acme failed on a batch of shape (1, 3, 8, 16) on cuda:0: no room"
        assert error.fix.names == ("max_side",)
        assert ("if memory ran out" in str(error.fix)) is not memory

    def test_what_the_system_refuses_is_said_of_what_was_to_be_kept(self):
        with pytest.raises(BackendUnavailableError) as caught, keeping("Acme's cache", Path("home/acme")):
            raise PermissionError("no permission")
        assert caught.value.summary == (
            "There is no place for Acme's cache: home/acme cannot be written to: no permission"
        )
        assert str(caught.value.fix) == "set POLYFACE_HOME to a folder that can be written to"

    def test_what_can_do_without_says_how(self):
        with pytest.raises(BackendUnavailableError) as caught, keeping("it", Path("a"), without="leave it out"):
            raise OSError
        assert str(caught.value.fix) == "set POLYFACE_HOME to a folder that can be written to, or leave it out"


def interface(*outputs, image=(1, 3, "?", "?")):
    weights = WeightsFile(name="mine", filename="mine.onnx", sha256="0" * 64, size=1, license="mine", urls=["file:///"])
    tensors = tuple(GraphTensor(name=name, dims=dims) for name, dims in outputs)
    inputs = (GraphTensor(name="x", dims=image),)
    return Interface(family="toys", name="mine", weights=weights, inputs=inputs, outputs=tensors, opset=11)


LEVELS = [
    (f"{kind}_{stride}", ("n", f"p{stride}", width)) for kind, width in (("s", 1), ("b", 4)) for stride in (8, 16)
]
OPTIONS = {"channels": "bgr", "mean": (1, 2, 3), "std": (4, 5, 6), "free": False}


@pytest.fixture
def levels(detector_spec):
    return attrs.evolve(
        detector_spec,
        outputs=[TensorSpec(name=name, dims=dims) for name, dims in LEVELS],
        head=Ref("toy_network:Head"),
        preprocess=attrs.evolve(detector_spec.preprocess, stride=16, pad_value=-1),
    )


class TestLike:
    @pytest.mark.parametrize(
        "outputs",
        [
            [("4", (128, 1)), ("5", (32, 1)), ("7", (128, 4)), ("8", (32, 4))],
            [("4", (1, "?", 1)), ("7", (1, "?", 4)), ("5", (1, "?", 1)), ("8", (1, "?", 4))],
        ],
        ids=["without a batch axis", "level by level"],
    )
    def test_outputs_are_found_by_their_widths_in_the_order_of_the_record(self, levels, outputs):
        spec = describe_like(levels, interface(*outputs), **OPTIONS)
        names = [("s_8", "4"), ("s_16", "5"), ("b_8", "7"), ("b_16", "8")]
        levels_of_head = (("s_8", "b_8"), ("s_16", "b_16"))
        assert dict(spec.head_options) == {
            "head": "toy_network:Head",
            "names": tuple(names),
            "levels": levels_of_head,
        }
        assert (spec.landmarks, spec.name) == (levels.landmarks, "mine")
        assert spec.preprocess == attrs.evolve(
            Preprocess(channels="bgr", mean=(1, 2, 3), std=(4, 5, 6), stride=16), pad_value=spec.preprocess.pad_value
        )

    def test_what_pads_is_the_same_pixel_whatever_mean_and_std_make_of_it(self, levels):
        black = Preprocess(channels="rgb", mean=(127.5, 127.5, 127.5), std=(128, 128, 128), pad_value=-127.5 / 128)
        coloured = Preprocess(channels="rgb", mean=(10, 20, 30), std=(2, 2, 2), pad_value=5)  # the pixel 20, 30, 40

        def pads(own, **options):
            preprocess = describe_like(attrs.evolve(levels, preprocess=own), interface(*LEVELS), **OPTIONS | options)
            return preprocess.preprocess.pads

        assert pads(black, mean=(0, 0, 0), std=(1, 1, 1)) == (0, 0, 0)
        assert pads(black, mean=(1, 2, 3), std=(4, 5, 6)) == (-1 / 4, -2 / 5, -3 / 6)
        assert pads(coloured, channels="rgb", mean=(0, 0, 0), std=(1, 1, 1)) == (20, 30, 40)
        assert pads(coloured, channels="bgr", mean=(0, 0, 0), std=(1, 1, 1)) == (40, 30, 20)
        assert pads(coloured, channels="rgb", mean=(10, 20, 30), std=(2, 2, 2)) == (5, 5, 5)

    @pytest.mark.parametrize(
        "rows", [(128, 32, 128, 32), (32, 128, 32, 128), (128, 32, 32, 128), (32, 128, 128, 32)], ids=str
    )
    def test_rows_that_are_fixed_tell_the_level_of_each_output(self, levels, rows):
        outputs = [
            (str(at), (1, count, width)) for at, (count, width) in enumerate(zip(rows, (1, 1, 4, 4), strict=True))
        ]
        names = dict(dict(describe_like(levels, interface(*outputs), **OPTIONS).head_options)["names"])
        assert [rows[int(names[own])] for own in ("s_8", "s_16", "b_8", "b_16")] == [128, 32, 128, 32]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ((2, 8, 2, 8), "output '5' gave 8 rows, and was taken for s_16.*wanted: fewer than 2, since"),
            ((8, 2, 2, 8), "output '7' gave 2 rows, and was taken for b_8.*wanted: 8, as '4', since"),
            ((8, 8, 8, 8), "output '5' gave 8 rows, and was taken for s_16.*wanted: fewer than 8, since"),
        ],
    )
    def test_rows_that_are_free_are_checked_when_it_runs(self, levels, rows, message):
        file = interface(("4", (1, "?", 1)), ("5", (1, "?", 1)), ("7", (1, "?", 4)), ("8", (1, "?", 4)))
        head = describe_like(levels, file, **OPTIONS).make_head()
        outputs = {
            name: np.zeros((1, count, width), np.float32)
            for name, count, width in zip("4578", rows, (1, 1, 4, 4), strict=True)
        }
        with pytest.raises(ContractError, match=f"(?s){message}"):
            head.scores(outputs)
        with pytest.raises(ContractError, match=f"(?s){message}"):
            head.decode(outputs, None, 0, np.array([0]))

    def test_outputs_that_have_the_names_of_the_record_are_found_by_them(self, levels):
        spec = describe_like(levels, interface(*reversed(LEVELS)), **OPTIONS)
        assert all(own == name for own, name in dict(spec.head_options)["names"])

    def test_a_fixed_size_is_no_matter_of_the_stride(self, levels):
        file = interface(
            *((name, (1, {"p8": 15, "p16": 6}[dims[1]], dims[2])) for name, dims in LEVELS), image=(1, 3, 24, 40)
        )
        usual = attrs.evolve(levels, defaults=DetectDefaults(infer_size=(64, 64), iou_threshold=0.3))
        spec = describe_like(usual, file, **OPTIONS)
        assert (spec.fixed_size, spec.preprocess.stride) == ((24, 40), 1)
        assert spec.defaults == DetectDefaults(iou_threshold=0.3)
        assert describe_like(usual, file, **{**OPTIONS, "free": True}).defaults.infer_size == (64, 64)

    def test_a_run_is_of_what_the_input_is_fixed_to_and_of_as_usual_where_that_is_less(self, levels):
        def describe(batch, side):
            rows = {"p8": (side // 8) ** 2, "p16": (side // 16) ** 2}
            outputs = [(name, (batch, rows[dims[1]], dims[2])) for name, dims in LEVELS]
            return describe_like(levels, interface(*outputs, image=(batch, 3, side, side)), **OPTIONS)

        assert describe(32, 640).run_pixels == 13_107_200
        assert describe(1, 640).run_pixels == levels.run_pixels == 4_194_304
        with pytest.raises(ContractError, match="fixes its input to 409,600,000,000 pixels a run at least"):
            describe(10**6, 640)

    @pytest.mark.parametrize(
        "outputs",
        [
            LEVELS[:3],
            [*LEVELS, ("more", ("n", "p", 1))],
            [*LEVELS[:3], ("b_16", ("n", "p", 5))],
            [(name, (1, 1, *dims)) for name, dims in LEVELS],
            [(name, (1, 9, dims[2])) for name, dims in LEVELS],
            [("4", (128, 1)), ("5", (128, 1)), ("7", (32, 4)), ("8", (32, 4))],
            [("4", (128, 1)), ("5", (64, 1)), ("7", (32, 4)), ("8", (16, 4))],
        ],
        ids=["too few", "too many", "another width", "more axes", "levels alike", "two of one level", "four levels"],
    )
    def test_other_outputs_are_refused(self, levels, outputs):
        with pytest.raises(
            ConfigError, match=r"wants outputs like s_8 \(n, p8, 1\), .*, as many rows for each output of a level"
        ):
            describe_like(levels, interface(*outputs), **OPTIONS)

    @pytest.mark.parametrize(("own", "kept"), [(("546", "head.*"), ()), (("*",), ("*",)), ((), ())])
    def test_layers_that_stay_in_float_are_those_of_one_file_unless_none_bears_8_bits(self, levels, own, kept):
        assert describe_like(attrs.evolve(levels, keep_float=own), interface(*LEVELS), **OPTIONS).keep_float == kept

    def test_maps_are_found_by_their_channels(self, levels):
        maps = [TensorSpec(name=name, dims=("n", channels, "h", "w")) for name, channels in (("heat", 1), ("size", 2))]
        file = interface(("7", (1, 2, 8, 8)), ("9", (1, 1, 8, 8)), image=(1, 3, 32, 32))
        spec = describe_like(attrs.evolve(levels, outputs=maps), file, **{**OPTIONS, "free": True})
        assert dict(spec.head_options)["names"] == (("heat", "9"), ("size", "7"))
        assert [output.dims for output in spec.outputs] == [("n", 2, "h0", "w0"), ("n", 1, "h1", "w1")]

    def test_outputs_with_names_of_the_record_are_found_first_and_the_rest_around_them(self, levels):
        heads = (("heat", 1), ("scale", 2), ("offset", 2))
        maps = attrs.evolve(
            levels, outputs=[TensorSpec(name=name, dims=("n", width, "h", "w")) for name, width in heads]
        )

        def describe(*names):
            outputs = [(name, (1, width, 8, 8)) for name, width in zip(names, (1, 2, 2), strict=True)]
            spec = describe_like(maps, interface(*outputs, image=(1, 3, 32, 32)), **OPTIONS)
            return [name for _, name in dict(spec.head_options)["names"]]

        assert describe("heat", "offset", "wh") == ["heat", "wh", "offset"]
        assert describe("7", "scale", "9") == ["7", "scale", "9"]
        assert describe("7", "8", "9") == ["7", "8", "9"]
        with pytest.raises(ConfigError) as caught:
            describe("heat", "wh", "reg")
        assert caught.value.why[0] == "'heat' is there, and each of wh (1, 2, 8, 8), reg (1, 2, 8, 8) may be scale"
        assert str(caught.value.fix).startswith("export it with the outputs named scale, offset; or: ")

    @pytest.mark.parametrize(
        ("names", "rows", "message"),
        [
            (("s_8", "s_16", "7", "8"), (32, 128, 128, 32), r"has 128 rows .*s_8 \(1, 32, 1\) has that name"),
            (("s_8", "5", "7", "8"), (32, 128, 128, 32), r"has 128 rows .*s_8 \(1, 32, 1\) has that name"),
            (("4", "5", "b_8", "8"), (128, 32, 64, 16), r"4 \(1, 128, 1\) and b_8 \(1, 64, 4\), taken for b_8, are of"),
            (("4", "5", "7", "b_8"), (128, 128, 128, 32), "have 2 different numbers of rows, and there are 4"),
        ],
    )
    def test_names_and_rows_that_contradict_each_other_are_refused(self, levels, names, rows, message):
        outputs = [(name, (1, count, width)) for name, count, width in zip(names, rows, (1, 1, 4, 4), strict=True)]
        with pytest.raises(ConfigError, match=message):
            describe_like(levels, interface(*outputs), **OPTIONS)

    def test_the_head_gets_its_own_names(self):
        head = RenamedHead(head="toy_network:Head", names=[("heads", "77")], anchors=2)
        outputs = {"77": np.arange(20, dtype=np.float32).reshape(2, 2, 5)}
        assert head.priors(8, 8).shape == (2, 4)
        assert head.scores(outputs).tolist() == [[4, 9], [14, 19]]
        assert head.decode(outputs, head.priors(8, 8), 1, np.array([0])).boxes.tolist() == [[10, 11, 12, 13]]

    def test_the_options_are_those_that_a_record_takes(self, levels):
        declared = input_options(channels="bgr", mean=(1, 2, 3), std=(4, 5, 6))
        assert {option.name: option.default for option in declared} == OPTIONS
        assert attrs.evolve(levels.preprocess, **{option.name: option.default for option in declared[:3]})
