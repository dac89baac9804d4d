"""From names to a detector that runs: resolve, plan, load, open; what is chosen, what is refused, and when."""

from __future__ import annotations

import math
import pickle
import sys
import threading
import types
from pathlib import Path

import attrs
import numpy as np
import pytest

from polyface.building import build, build_for_many, create_detector, resolve
from polyface.errors import (
    ArtifactError,
    BackendUnavailableError,
    ConfigError,
    ContractError,
    PluginError,
    UnknownNameError,
    UnsupportedError,
    WeightsMismatchError,
)
from polyface.graphs.artifacts import ArtifactKey
from polyface.graphs.plan import plan
from polyface.graphs.resolve import load_graph
from polyface.images.geometry import settle_size
from polyface.machine import gate
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.options import check_options
from polyface.plugins.protocols import CompileRequest, DeviceReport
from polyface.plugins.records import (
    Capability,
    ConverterSpec,
    DetectDefaults,
    FileRef,
    GraphSource,
    OptionSpec,
    Preprocess,
    Ref,
    TensorSpec,
)
from polyface.settings.config import Config
from polyface.storage.files import sha256_of
from toy_network import Head, Session, make_image, shapes


def select(config, plugins):
    return plan(resolve(config, plugins)).first


class TestBuild:
    """From names to a detector, with records, head and backend in a module of the test's."""

    @pytest.fixture
    def world(self, monkeypatch, tmp_path, detector_spec, backend_spec):
        """What the plugin is made of, open to change until ``world.plugins()`` is called."""

        compiled, converted = [], []

        class Backend:
            found = (
                DeviceReport(device="cpu", precisions=("fp32",)),
                DeviceReport(device="cuda:0", precisions=("fp32", "fp16")),
            )

            def probe(self):
                return self.found

            def compile(self, graph, request):
                compiled.append((graph, request))
                return Session(device=request.device, precision=request.precision)

        class Converter:
            def convert(self, graph, directory):
                converted.append(graph)
                (directory / "toy.onnx").write_bytes(b"converted")
                return directory / "toy.onnx"

            def provenance(self):
                return {"toy": "1"}

        fake = types.ModuleType("toy_faces")
        fake.__path__ = [str(tmp_path / "toy_faces")]
        fake.Head, fake.Backend, fake.Converter = Head, Backend, Converter
        monkeypatch.setitem(sys.modules, "toy_faces", fake)
        monkeypatch.setitem(sys.modules, "fast_faces", fake)
        world = types.SimpleNamespace(
            module=fake,
            backend=Backend,
            compiled=compiled,
            converted=converted,
            detector=attrs.evolve(
                detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], kind="numpy", requires=())]
            ),
            backends=[attrs.evolve(backend_spec, requires=(), accepts=["onnx", "numpy"])],
            converters=[],
        )

        def plugins():
            plugin = types.ModuleType("plugin")
            plugin.polyface_detectors = hookimpl(lambda: [world.detector])
            plugin.polyface_backends = hookimpl(lambda: world.backends)
            plugin.polyface_converters = hookimpl(lambda: world.converters)
            manager = PluginManager()
            manager.register(plugin, name="world")
            return manager

        world.plugins = plugins
        return world

    def test_names_become_a_detector_that_runs(self, world):
        with create_detector(
            "toy", config=Config(backend="fast", device="cpu", threads=3), plugins=world.plugins()
        ) as detector:
            assert detector.detect(make_image(7)).boxes.tolist() == [[7, 7, 17, 17]]
        [(graph, request)] = world.compiled
        assert (graph.kind, graph.source, graph.weights, graph.detector) == (
            "numpy",
            world.detector.graphs[0].ref,
            None,
            world.detector,
        )
        assert request == CompileRequest(device="cpu", precision="fp32", threads=3, options={})

    def test_the_backend_is_told_how_many_threads_or_else_of_the_cores_there_are(self, world, monkeypatch):
        monkeypatch.setattr("polyface.building.default_threads", lambda: 7)
        build(Config(detector="toy", threads=3), world.plugins())
        build(Config(detector="toy"), world.plugins())
        assert [request.threads for _, request in world.compiled] == [3, 7]

    def test_runs_share_the_threads(self, world):
        build(Config(detector="toy", threads=7, runs=2), world.plugins())
        build(Config(detector="toy", threads=1, runs=2), world.plugins())
        assert [(request.threads, request.runs) for _, request in world.compiled] == [(3, 2), (1, 2)]

    def test_for_many_images_two_run_side_by_side_where_there_are_two_threads(self, world):
        for settings in ({"threads": 4}, {"threads": 1}, {"threads": 4, "runs": 1}):
            build_for_many(Config(detector="toy", device="cpu", **settings), world.plugins())
        assert [(request.threads, request.runs) for _, request in world.compiled] == [(2, 2), (1, 1), (4, 1)]

    def test_threads_that_are_set_are_had_or_refused_and_others_never_fail(self, world):
        sessions = []

        class Two(world.backend):
            def compile(self, graph, request):  # noqa: ARG002
                sessions.append(Session(device=request.device, precision=request.precision, threads=2))
                return sessions[-1]

        world.module.Backend = Two
        plugins = world.plugins()
        assert build(Config(detector="toy", threads=2), plugins).execution.threads == 2
        assert build(Config(detector="toy"), plugins).execution.threads == 2
        with pytest.raises(BackendUnavailableError) as caught:
            build(Config(detector="toy", threads=3), plugins)
        assert caught.value.what == "The backend 'fast' was asked for 3 threads; it runs on 2."
        assert str(caught.value.fix) == "threads=2; or: leave it to polyface"
        assert [session.closed for session in sessions] == [0, 0, 1]

    def test_the_backend_is_told_of_a_fixed_size_and_of_no_other(self, world):
        build(Config(detector="toy", device="cpu", infer_size=(64, 96)), world.plugins())
        build(Config(detector="toy", device="cpu", max_side=96), world.plugins())
        assert [request.infer_size for _, request in world.compiled] == [(64, 96), None]

    def test_keywords_are_stronger_than_the_config(self, world):
        config = Config(detector="other", backend="fast", device="cpu")
        detector = create_detector("toy", config=config, plugins=world.plugins(), device="cuda", precision="fp16")
        assert (detector.execution.device, detector.execution.precision) == ("cuda:0", "fp16")
        assert detector.config.detector == "toy"

    def test_a_config_file_can_be_named(self, world, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text('detector = "toy"\nbackend = "fast"\nscore_threshold = 0.125\n')
        assert create_detector(config=path, plugins=world.plugins()).score_threshold == 0.125

    @pytest.mark.parametrize(("device", "precision"), [("cuda:0", "fp32"), ("cpu", "bf16")])
    def test_a_session_on_anything_else_than_asked_is_refused_and_closed(self, world, monkeypatch, device, precision):
        session = Session(device=device, precision=precision)
        monkeypatch.setattr(world.backend, "compile", lambda *_: session)
        with pytest.raises(ContractError) as caught:
            build(Config(detector="toy", device="cpu"), world.plugins())
        assert caught.value.what == (
            f"The backend 'fast' runs on {device} in {precision}; it was asked for cpu in fp32."
        )
        assert session.closed == 1

    def test_whatever_a_backend_raises_while_it_loads_a_network_is_named_as_its(self, world, monkeypatch):
        def fail(*_):
            raise KeyError("conv1")

        monkeypatch.setattr(world.backend, "compile", fail)
        with pytest.raises(PluginError) as caught:
            build(Config(detector="toy", device="cpu"), world.plugins())
        assert caught.value.what == "The backend 'fast' failed to load 'toy'."
        assert caught.value.why == ("KeyError: 'conv1'",)

    def test_whatever_a_head_raises_while_it_is_made_is_named_as_its(self, world):
        world.detector = attrs.evolve(world.detector, head_options={"anchor": 1})
        with pytest.raises(PluginError, match=r"(?s)^The head of 'toy' cannot be made\..*unexpected keyword") as caught:
            build(Config(detector="toy", device="cpu"), world.plugins())
        assert str(caught.value.fix) == "mend local"
        assert world.compiled == []

    def test_an_unknown_preset_is_refused_before_anything_is_compiled(self, world):
        with pytest.raises(ConfigError, match="There is no preset 'none'"):
            build(Config(detector="toy", preset="none"), world.plugins())
        assert world.compiled == []

    def test_an_illegal_fixed_size_is_refused_before_anything_is_compiled(self, world):
        with pytest.raises(ConfigError, match="cannot run at infer_size 16x640"):
            build(Config(detector="toy", infer_size=(16, 640)), world.plugins())
        assert world.compiled == []

    def test_a_device_that_is_not_there_is_refused_before_anything_is_compiled(self, world):
        with pytest.raises(BackendUnavailableError, match="cannot run on device 'cuda:1' in 'fp32'"):
            build(Config(detector="toy", device="cuda:1"), world.plugins())
        assert world.compiled == []

    def test_a_class_that_lacks_methods_is_named_with_them(self, world):
        world.module.Head = types.SimpleNamespace
        with pytest.raises(ContractError) as caught:
            build(Config(detector="toy"), world.plugins())
        assert caught.value.what == "'toy_faces:Head' gives no Head: it lacks priors, scores, decode."

    def test_an_unknown_detector_or_backend_offers_the_nearest(self, world):
        with pytest.raises(UnknownNameError, match="no detector named 'toyy'; did you mean 'toy'"):
            build(Config(detector="toyy"), world.plugins())
        with pytest.raises(UnknownNameError, match="no backend named 'fats'; did you mean 'fast'"):
            build(Config(detector="toy", backend="fats"), world.plugins())

    def test_auto_takes_the_preferred_backend_that_has_a_route(self, world):
        [fast] = world.backends
        slow = attrs.evolve(fast, name="slow", preference=-1)
        engine = attrs.evolve(fast, name="engine", preference=9, accepts=["engine"])
        world.backends = [slow, fast, engine]
        assert select(Config(detector="toy"), world.plugins()).backend == fast
        assert select(Config(detector="toy", backend="slow"), world.plugins()).backend == slow

    def test_neither_a_fork_nor_the_end_of_the_process_comes_in_the_middle_of_loading_compiling_or_running(self, world):
        seen = {}

        def note(place, kept):
            def noting(*arguments):
                seen[place] = threading.get_ident() in gate.runs._inside
                return kept(*arguments)

            return noting

        world.backend.__init__ = note("load", object.__init__)
        world.backend.probe = note("probe", world.backend.probe)
        compile_ = world.backend.compile

        def compiled(self, graph, request):
            seen["compile"] = threading.get_ident() in gate.runs._inside
            session = compile_(self, graph, request)
            session.run = note("run", session.run)
            return session

        world.backend.compile = compiled
        detector = create_detector("toy", config=Config(backend="fast", device="cpu"), plugins=world.plugins())
        detector.detect(make_image(7))
        assert seen == {"load": True, "probe": True, "compile": True, "run": True}
        assert not gate.runs._inside

    def test_a_backend_sees_the_standard_output_of_the_process(self, world):
        seen = []
        world.backend.probe = lambda self: seen.append(sys.stdout) or self.found
        create_detector("toy", config=Config(backend="fast", device="cpu"), plugins=world.plugins())
        assert seen == [sys.stdout]

    @pytest.fixture
    def gpu_machine(self, world, monkeypatch):
        """A machine with a GPU's driver, on which the preferred backend has the processor alone."""
        [fast] = world.backends
        claims = [Capability(device="cuda", driver=("libcuda.so.1",)), Capability(device="cpu")]

        class ProcessorOnly(world.backend):
            found = (DeviceReport(device="cpu", precisions=("fp32",)),)

        world.module.ProcessorOnly = ProcessorOnly
        ours = Ref("toy_faces:ProcessorOnly")
        world.backends = [
            attrs.evolve(fast, name="both", preference=1, capabilities=claims),
            attrs.evolve(fast, name="wheel-without-gpu", preference=9, capabilities=claims, factory=ours),
        ]
        world.drivers = {"libcuda.so.1"}
        monkeypatch.setattr("polyface.graphs.plan.has_driver", lambda libraries: bool({*libraries} & world.drivers))
        return world

    def test_with_everything_on_auto_a_gpu_is_looked_for_on_every_backend(self, gpu_machine):
        detector = build(Config(detector="toy"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("both", "cuda:0")
        assert detector.config.device == "auto"

    def test_without_a_driver_the_preferred_backend_is_taken_and_no_other_is_loaded(self, gpu_machine, monkeypatch):
        gpu_machine.drivers = set()
        monkeypatch.setattr(gpu_machine.backend, "__init__", lambda _: pytest.fail("loaded"))
        monkeypatch.setattr(gpu_machine.module.ProcessorOnly, "__init__", lambda _: None)
        detector = build(Config(detector="toy"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("wheel-without-gpu", "cpu")

    def test_a_driver_without_its_device_leaves_the_processor(self, gpu_machine, monkeypatch):
        monkeypatch.setattr(gpu_machine.backend, "found", (DeviceReport(device="cpu", precisions=("fp32",)),))
        detector = build(Config(detector="toy"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("wheel-without-gpu", "cpu")

    def test_a_backend_or_device_that_is_named_is_taken_whatever_drivers_there_are(self, gpu_machine):
        detector = build(Config(detector="toy", device="cpu"), gpu_machine.plugins())
        assert (detector.backend.name, detector.execution.device) == ("wheel-without-gpu", "cpu")
        detector = build(Config(detector="toy", backend="wheel-without-gpu"), gpu_machine.plugins())
        assert detector.execution.device == "cpu"

    def test_auto_takes_the_first_by_name_among_equals(self, world):
        [fast] = world.backends
        world.backends = [fast, attrs.evolve(fast, name="also-fast")]
        assert select(Config(detector="toy"), world.plugins()).backend.name == "also-fast"

    @pytest.mark.parametrize("fault", ["factory", "probe"])
    def test_auto_passes_over_a_backend_whose_own_code_fails(self, world, fault):
        class Broken(world.backend):
            def __init__(self):
                if fault == "factory":
                    raise OSError("libruntime.so: cannot open")

            def probe(self):
                raise OSError("libruntime.so: cannot open")

        world.module.Broken = Broken
        broken = attrs.evolve(world.backends[0], name="broken", preference=9, factory=Ref("toy_faces:Broken"))
        world.backends.append(broken)
        with create_detector("toy", config=Config(detector="toy"), plugins=world.plugins()) as detector:
            assert detector.backend.name == "fast"
        with pytest.raises(PluginError) as caught:
            create_detector("toy", config=Config(backend="broken"), plugins=world.plugins())
        assert caught.value.what == "The backend 'broken' does not load."
        assert caught.value.why == ("OSError: libruntime.so: cannot open",)

    def test_a_home_that_cannot_be_written_to_is_named(self, world, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "file"))
        world.detector = attrs.evolve(
            world.detector, graphs=[attrs.evolve(world.detector.graphs[0], kind="torch-module")]
        )
        world.converters = [ConverterSpec(source="torch-module", target="onnx", factory=Ref("toy_faces:Converter"))]
        with pytest.raises(ArtifactError) as caught:
            create_detector("toy", config=Config(), plugins=world.plugins())
        assert (
            caught.value.what == f"The exported graph of 'toy' cannot be stored in {tmp_path / 'file' / 'artifacts'}."
        )
        assert "POLYFACE_HOME" in str(caught.value.fix)

    def test_auto_skips_a_backend_that_does_not_claim_the_device(self, world):
        [fast] = world.backends
        tpu = attrs.evolve(fast, name="tpu", preference=-5, capabilities=[Capability(device="tpu")])
        world.backends = [fast, tpu]
        assert select(Config(detector="toy", device="tpu"), world.plugins()).backend == tpu

    def test_without_any_route_the_reasons_of_every_backend_are_told(self, world):
        [fast] = world.backends
        world.backends = [attrs.evolve(fast, name=name, accepts=[name]) for name in ("one", "two")]
        with pytest.raises(UnsupportedError) as caught:
            select(Config(detector="toy"), world.plugins())
        assert caught.value.what == "No installed backend can run 'toy' as asked."
        assert {reason.subject for reason in caught.value.reasons} == {"one artifact", "two artifact", "converters"}

    def test_without_any_backend_one_is_recommended(self, world):
        world.backends = []
        with pytest.raises(UnsupportedError) as caught:
            select(Config(detector="toy"), world.plugins())
        assert [reason.why for reason in caught.value.reasons] == ["none is installed"]
        assert "pip install" in str(caught.value.fix)

    def test_a_conversion_is_stored_and_found_the_next_time(self, world, converter_spec, detector_spec, home):
        world.detector = attrs.evolve(detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], requires=())])
        world.converters = [attrs.evolve(converter_spec, requires=())]
        first = select(Config(detector="toy"), world.plugins())
        assert first.route.description == "torch-module, converted to onnx"
        graph = load_graph(first.route, first.detector, first.weights)
        assert (graph.kind, graph.source.read_bytes()) == ("onnx", b"converted")
        assert graph.source.is_relative_to(home / "artifacts")
        second = select(Config(detector="toy"), world.plugins())
        assert second.route.artifact == graph.source
        assert load_graph(second.route, second.detector, second.weights) == graph
        assert len(world.converted) == 1

    def test_a_folder_of_artifacts_that_is_not_there_is_refused_with_the_command_that_makes_it(self, world, tmp_path):
        folder = tmp_path / "nowhere"
        with pytest.raises(ConfigError, match="artifacts must name a folder that exists") as caught:
            select(Config(detector="toy", artifacts=str(folder)), world.plugins())
        assert str(caught.value.fix) == f"polyface export toy --output {folder}"
        with pytest.raises(ConfigError) as caught:
            select(Config(detector="toy", weights="my.pth", artifacts=str(folder)), world.plugins())
        assert str(caught.value.fix) == f"polyface export toy --weights {Path('my.pth').absolute()} --output {folder}"

    def test_a_damaged_artifact_in_a_named_folder_ends_the_search_for_a_backend(
        self, world, converter_spec, detector_spec, tmp_path
    ):
        world.detector = attrs.evolve(detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], requires=())])
        world.converters = [attrs.evolve(converter_spec, requires=())]
        folder = tmp_path / ArtifactKey.of(world.detector, "", "onnx").digest
        folder.mkdir()
        with pytest.raises(ArtifactError, match="FileNotFoundError"):
            build(Config(detector="toy", artifacts=str(tmp_path)), world.plugins())
        assert world.converted == []

    def test_what_mends_a_damaged_artifact_names_the_checkpoint_it_was_made_from(self, world, detector_spec, tmp_path):
        world.detector = attrs.evolve(detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], requires=())])
        own = tmp_path / "my.pth"
        own.write_bytes(b"mine")
        folder = tmp_path / ArtifactKey.of(world.detector, sha256_of(own), "onnx").digest
        folder.mkdir()
        with pytest.raises(ArtifactError) as caught:
            build(Config(detector="toy", weights=str(own), artifacts=str(tmp_path)), world.plugins())
        export = f"polyface export toy --to onnx --weights {own} --output {tmp_path}"
        assert str(caught.value.fix) == f"rm -r {folder} && {export}"

    def test_a_packaged_graph_is_verified_before_it_is_used(self, world, tmp_path, monkeypatch):
        monkeypatch.delitem(sys.modules, "toy_faces")
        folder = tmp_path / "toy_graphs"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "toy.onnx").write_bytes(b"graph")
        monkeypatch.syspath_prepend(tmp_path)
        packaged = GraphSource(kind="onnx", ref=FileRef("toy_graphs:toy.onnx"), sha256=sha256_of(folder / "toy.onnx"))
        world.detector = attrs.evolve(world.detector, graphs=[packaged])
        selection = select(Config(detector="toy"), world.plugins())
        assert load_graph(selection.route, selection.detector, selection.weights).source == folder / "toy.onnx"
        (folder / "toy.onnx").write_bytes(b"grape")
        with pytest.raises(WeightsMismatchError):
            load_graph(selection.route, selection.detector, selection.weights)
        sys.modules.pop("toy_graphs", None)

    def test_the_backend_gets_every_option_checked_and_filled_in(self, world):
        threads = OptionSpec(name="threads", type="int", help="Threads.", default=1, minimum=1)
        arena = OptionSpec(name="arena", type="bool", help="Arena.")
        world.backends = [attrs.evolve(world.backends[0], options=[threads, arena])]
        build(Config(detector="toy", backend_options={"threads": 4}), world.plugins())
        assert dict(world.compiled[0][1].options) == {"threads": 4, "arena": None}

    def test_a_pickled_detector_is_built_again_from_its_config_and_the_installed_plugins(self):
        detector = create_detector("example-redbox", backend="numpy", score_threshold=0.25)
        again = pickle.loads(pickle.dumps(detector))  # noqa: S301
        assert again.config == detector.config
        assert again.detect(make_image(3)) == detector.detect(make_image(3))

    def test_a_pickled_detector_finds_its_artifacts_from_any_folder(self, tmp_path, monkeypatch):
        for name in ("graphs", "elsewhere"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path)
        detector = create_detector("example-redbox", backend="numpy", artifacts="graphs")
        assert detector.config.artifacts == str(tmp_path / "graphs")
        monkeypatch.chdir(tmp_path / "elsewhere")
        again = pickle.loads(pickle.dumps(detector))  # noqa: S301
        assert again.detect(make_image(3)) == detector.detect(make_image(3))

    class TestWhatTheInputFixes:
        """A network of fixed height, width or batch, from its name to its faces."""

        @pytest.fixture
        def fixed(self, world):
            def fixed(n="n", h="h", w="w"):
                world.detector = attrs.evolve(
                    world.detector,
                    input=TensorSpec(name="image", dims=(n, 3, h, w)),
                    outputs=[TensorSpec(name="heads", dims=(n, "p", 5))],
                )
                return world.plugins()

            return fixed

        def test_images_of_every_size_are_brought_to_it(self, world, fixed):
            with build(Config(detector="toy"), fixed(h=40, w=80)) as detector:
                found = detector.detect_batch(
                    [make_image(8, height=20, width=20), make_image(8, height=400, width=400)]
                )
                assert detector.config.infer_size == (40, 80)
                assert detector.__reduce__()[1] == (detector.config,)
            assert shapes(detector) == [(2, 3, 40, 80)]
            assert [faces.boxes.tolist() for faces in found] == [[[4, 4, 9, 9]], [[80, 80, 180, 180]]]
            assert [request.infer_size for _, request in world.compiled] == [(40, 80)]

        @pytest.mark.parametrize(
            ("images", "batch_size", "runs"), [(1, 8, 1), (3, 8, 1), (4, 8, 2), (7, 8, 3), (7, 2, 3), (7, 100, 3)]
        )
        def test_each_run_is_of_the_batch_it_takes(self, fixed, images, batch_size, runs):
            with build(Config(detector="toy", batch_size=batch_size), fixed(n=3)) as detector:
                found = detector.detect_batch([make_image(red) for red in range(images)])
                heads = detector.raw_heads([make_image(red) for red in range(images)])["heads"]
            assert set(shapes(detector)) == {(3, 3, 32, 32)}
            assert len(shapes(detector)) == runs + math.ceil(images / 3)
            assert [faces.boxes[0, 0] for faces in found] == list(range(images))
            assert heads[:, 0, 0].tolist() == list(range(images))

        def test_its_whole_batch_is_within_the_pixels_of_a_run(self, fixed):
            with build(Config(detector="toy", run_pixels=3 * 256 * 256), fixed(n=3)) as detector:
                detector.detect(make_image(1, height=600, width=700))
            assert max(math.prod(shape) // 3 for shape in shapes(detector)) <= 3 * 256 * 256

        def test_a_run_of_another_number_of_rows_breaks_the_contract(self, fixed, monkeypatch):
            monkeypatch.setattr(Session, "run", lambda *_: {"heads": np.zeros((5, 1, 5), np.float32)})
            with (
                build(Config(detector="toy"), fixed(n=3)) as detector,
                pytest.raises(ContractError, match="Of 3 images, the outputs heads have another number of rows"),
            ):
                detector.detect(make_image(1))


class TestInferSize:
    @pytest.mark.parametrize(
        ("size", "legal"),
        [
            ((470, 640), "464x640"),  # 29 * 16 = 464 is nearer than 480
            ((472, 649), "480x656"),  # halfway: the larger; 649 is nearer to 656 than to 640
            ((16, 640), "48x640"),  # under 40, of which 48 is the next multiple
        ],
    )
    def test_a_size_the_network_cannot_take_is_refused_with_the_nearest_it_can(self, detector_spec, size, legal):
        spec = attrs.evolve(
            detector_spec, preprocess=Preprocess(channels="rgb", mean=(0, 0, 0), stride=16), min_side=40
        )
        with pytest.raises(ConfigError) as caught:
            settle_size(Config(infer_size=size), spec)
        assert caught.value.what == f"'toy' cannot run at infer_size {size[0]}x{size[1]}."
        assert caught.value.why == ("its sides must be multiples of 16 and at least 40",)
        assert caught.value.fix.settings == {"infer_size": tuple(map(int, legal.split("x")))}
        assert settle_size(Config(infer_size=legal), spec).infer_size == tuple(map(int, legal.split("x")))
        assert settle_size(Config(), spec) == Config()


class TestOptions:
    @pytest.fixture
    def backend(self, backend_spec):
        return attrs.evolve(
            backend_spec,
            options=[
                OptionSpec(name="threads", type="int", help="How many threads.", default=2, minimum=1),
                OptionSpec(name="mode", type="str", help="How to run.", choices=("fast", "exact")),
            ],
        )

    def test_defaults_fill_in_what_is_not_given(self, backend):
        assert check_options("backend 'fast'", backend.options, {"mode": "fast"}) == {"threads": 2, "mode": "fast"}
        assert check_options("backend 'fast'", backend.options, {}) == {"threads": 2, "mode": None}

    def test_an_unknown_option_offers_the_nearest_and_lists_them(self, backend, backend_spec):
        with pytest.raises(ConfigError) as caught:
            check_options("backend 'fast'", backend.options, {"thread": 2})
        assert caught.value.what == "The backend 'fast' has no option 'thread'; did you mean 'threads'?"
        assert caught.value.why == ("its options: threads, mode",)
        assert not str(caught.value.fix)
        with pytest.raises(ConfigError) as caught:
            check_options("backend 'fast'", backend_spec.options, {"thread": 2})
        assert caught.value.why == ("its options: none",)

    def test_a_setting_among_the_options_is_told_its_place(self, backend_spec):
        with pytest.raises(ConfigError) as caught:
            check_options("backend 'fast'", backend_spec.options, {"batch_size": 2})
        assert str(caught.value.fix) == "set it by itself, for every backend, as batch_size"

    @pytest.mark.parametrize(
        ("options", "message", "why"),
        [
            ({"threads": 0}, "backend_options: threads must be at least 1, not 0.", "How many threads."),
            ({"threads": "2"}, "backend_options: threads must be of type int, not '2'.", "How many threads."),
            ({"mode": "x"}, "backend_options: mode must be one of 'fast', 'exact', not 'x'.", "How to run."),
        ],
    )
    def test_a_wrong_value_says_what_the_option_is_for(self, backend, options, message, why):
        with pytest.raises(ConfigError) as caught:
            check_options("backend 'fast'", backend.options, options)
        assert (caught.value.what, caught.value.why) == (message, (why,))

    FIXED = TensorSpec(name="image", dims=("n", 3, 64, 96))

    @pytest.mark.parametrize("given", [{}, {"infer_size": (64, 96)}, {"pad_to": 64}, {"view": "auto"}, {"tile": 500}])
    def test_what_the_input_fixes_is_the_size(self, detector_spec, given):
        settled = settle_size(Config(**given), attrs.evolve(detector_spec, input=self.FIXED))
        assert (settled.infer_size, settled.fit) == ((64, 96), "letterbox")
        assert settle_size(settled, attrs.evolve(detector_spec, input=self.FIXED)) == settled

    def test_another_than_the_input_fixes_is_refused(self, detector_spec):
        with pytest.raises(ConfigError) as caught:
            settle_size(Config(infer_size=(96, 64)), attrs.evolve(detector_spec, input=self.FIXED))
        assert caught.value.what == "'toy' cannot run at infer_size 96x64."
        assert caught.value.why == ("its network takes 64x96 and nothing else",)
        assert caught.value.fix.settings == {"infer_size": (64, 96)}

    @pytest.mark.parametrize("given", [{"max_side": 50}, {"scales": (1, 2)}, {"preset": "widerface-original"}])
    def test_nor_may_any_setting_contradict_it(self, detector_spec, given):
        (name,) = given
        fixed = attrs.evolve(detector_spec, input=self.FIXED)
        with pytest.raises(ConfigError, match=rf"^'toy' cannot run with {name}\.") as caught:
            settle_size(Config(**given), fixed)
        assert caught.value.why == ("its network takes 64x96 and nothing else", f"{name} is set (keyword)")
        assert str(caught.value.fix) == f"leave out {name}"
        with pytest.raises(ConfigError) as caught:
            settle_size(Config(**given, family="toys"), fixed)
        assert str(caught.value.fix).startswith(f"leave out {name}; or: if its family has the option free, ")

    @pytest.mark.parametrize(
        ("given", "size", "fit"),
        [
            ({}, (64, 96), "stretch"),
            ({"view": "plain", "pad_to": 1}, (64, 96), "stretch"),
            ({"fit": "letterbox"}, (64, 96), "letterbox"),
            ({"infer_size": (32, 32)}, (32, 32), "stretch"),
            *(
                (more, None, "letterbox")
                for more in ({"max_side": 9}, {"scales": (1,)}, {"tile": 99}, {"preset": "dsfd-multiscale"})
            ),
        ],
    )
    def test_a_default_gives_way_to_the_user(self, detector_spec, given, size, fit):
        spec = attrs.evolve(detector_spec, defaults=DetectDefaults(infer_size=(64, 96), fit="stretch"))
        settled = settle_size(Config().replace(**given), spec)
        assert (settled.infer_size, settled.fit) == (size, fit)
        assert settle_size(settled, spec) == settled
