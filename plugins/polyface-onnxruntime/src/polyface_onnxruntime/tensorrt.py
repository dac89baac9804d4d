"""ONNX Runtime's TensorRT provider: the graph becomes an engine, built once for a range of shapes and kept.

Not yet run on a GPU: the tests end at the provider, with a stand-in for ONNX Runtime's session. The provider's options
and their meaning: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

from __future__ import annotations

import ctypes
import importlib
import io
import os
import re
import shutil
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
from attrs import frozen

from polyface.errors import BackendUnavailableError, ConfigError, Fix
from polyface.plugins.protocols import CompileRequest, DeviceReport, Execution, Graph
from polyface.plugins.records import DetectorSpec
from polyface.plugins.toolkit import CUDA_DRIVER, graph_file, keeping
from polyface.settings.paths import home
from polyface.storage.files import read_sealed, remove_abandoned, remove_abandoned_folders, sha256_of, write_sealed
from polyface_onnxruntime.runtime import onnxruntime
from polyface_onnxruntime.session import (
    IDENTITY,
    OnnxRuntimeSession,
    check_session,
    cuda_devices,
    cuda_providers,
    indexed,
    open_session,
    require_provider,
)

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

    Size: TypeAlias = tuple[int, int]
    """Height and width."""

TENSORRT = "TensorrtExecutionProvider"
SIDES = ("min_side", "opt_side", "max_side")
USING = ".using-"
ENGINE = "the TensorRT engine"

_WHEELS = Fix(command="pip uninstall --yes onnxruntime && pip install 'polyface-onnxruntime[gpu,tensorrt]'")
_ON_CPU = Fix(settings={"backend": "onnxruntime", "device": "cpu"})

# ONNX Runtime has no switch for it (its issue 26029), and NVIDIA's libraries read the variable once.
_TF32 = "NVIDIA_TF32_OVERRIDE"
_WHY_NO_FP32 = f"fp32 needs {_TF32}=0 in the environment: TensorRT computes in TF32 otherwise, with 10 bits of 23"


@frozen(kw_only=True)
class Profile:
    """The inputs an engine is built for: up to ``max_batch`` images of heights and widths, in pixels.

    Every input from ``least`` to ``most`` runs; the engine is tuned for ``best``.
    """

    least: Size
    best: Size
    most: Size
    max_batch: int
    min_batch: int = 1

    @classmethod
    def of(cls, detector: DetectorSpec, request: CompileRequest) -> Profile:
        """Return the profile of one size, where the request fixes it, or else of the sides in the backend's options.

        Raises:
            ConfigError: the sides are not in order, the network takes no such side, or the size is fixed twice.
        """
        options = request.options
        min_batch = detector.fixed_batch or 1
        max_batch = detector.fixed_batch or int(options.get("max_batch") or 1)
        if request.infer_size is not None:
            given = [name for name in SIDES if options.get(name) is not None]
            if given:
                raise ConfigError(
                    f"infer_size and backend_options {', '.join(given)} contradict each other.",
                    why=["infer_size builds the engine for that one size"],
                    fix=f"leave out {', '.join(given)}",
                )
            size = request.infer_size
            return cls(least=size, best=size, most=size, max_batch=max_batch, min_batch=min_batch)
        stride = detector.preprocess.stride
        least = int(options.get("min_side") or -(-detector.min_side // stride) * stride)
        most = int(options.get("max_side") or 1600)
        best = int(options.get("opt_side") or max(least, min(640, most)))
        wrong = [side for side in (least, best, most) if side % stride]
        if wrong or not least <= best <= most:
            raise ConfigError(
                f"backend_options: {', '.join(SIDES)} must ascend in multiples of the detector's stride.",
                why=[f"they are {least}, {best} and {most} pixels", f"the stride of '{detector.name}' is {stride}"],
            )
        sides = {"least": (least, least), "best": (best, best), "most": (most, most)}
        return cls(**sides, max_batch=max_batch, min_batch=min_batch)

    def shapes(self, name: str) -> dict[str, str]:
        """Return the provider's options for the input ``name``, each of the form ``name:NxCxHxW``."""

        def shape(batch: int, size: Size) -> str:
            return f"{name}:{batch}x3x{size[0]}x{size[1]}"

        return {
            "trt_profile_min_shapes": shape(self.min_batch, self.least),
            "trt_profile_opt_shapes": shape(self.max_batch, self.best),
            "trt_profile_max_shapes": shape(self.max_batch, self.most),
        }

    def __str__(self) -> str:
        sizes = "-".join(f"{height}x{width}" for height, width in (self.least, self.best, self.most))
        return f"{sizes}-batch{self.max_batch}"


class TensorRTBackend:
    """Runs ONNX graphs with ONNX Runtime's TensorRT provider on CUDA, in float16 or float32."""

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the CUDA devices on which a session comes up with TensorRT.

        Raises:
            BackendUnavailableError: there is none, for want of a GPU, of ONNX Runtime's provider or of TensorRT itself.
        """
        _try("cuda:0")  # where there is no first device, its error says why
        version = tensorrt_version()
        precisions = _precisions()
        detail = f"TensorRT {version}" + ("" if "fp32" in precisions else f"; {_WHY_NO_FP32}")
        return tuple(DeviceReport(device=device, precisions=precisions, detail=detail) for device in cuda_devices(_try))

    def compile(self, graph: Graph, request: CompileRequest) -> TensorRTSession:
        """Return a session that runs the graph's ONNX file exactly as requested; the first one builds the engine.

        Raises:
            BackendUnavailableError: TensorRT cannot run it on that device in that precision.
            ConfigError: the options describe no range of shapes.
            ContractError: the file is no ONNX graph, or its inputs and outputs are not the detector's.
        """
        path = graph_file(graph)
        if request.precision not in _precisions():
            half = Fix(settings={"precision": "fp16"})
            raise BackendUnavailableError(
                f"TensorRT cannot run in '{request.precision}' here.",
                why=[_WHY_NO_FP32] if request.precision == "fp32" else [f"it has {', '.join(_precisions())}"],
                fix=Fix(command=f"export {_TF32}=0") | half if request.precision == "fp32" else half,
            )
        profile = Profile.of(graph.detector, request)
        engines = Engines(cache_file(path, request, profile))
        folder = str(engines.folder)
        session = _open(
            path,
            request,
            {
                **profile.shapes(graph.detector.input.name),
                "trt_fp16_enable": str(int(request.precision == "fp16")),
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": folder,
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": folder,
            },
        )
        check_session(graph, session)
        engines.keep()
        return TensorRTSession(
            OnnxRuntimeSession(session, graph.detector, request.precision), graph.detector, profile, engines
        )


class Engines:
    """The engines and timings of one session: in a folder that no other process reads or writes, kept in one file.

    ONNX Runtime and TensorRT take what lies in their folder as it is. So the file is taken only with the sha256 that it
    was kept with, and of two processes that build at once the last one's stays, whole.

    Args:
        file: where they are kept between processes.

    Raises:
        BackendUnavailableError: there is no place for the folder.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with keeping(ENGINE, file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(file.parent)
            remove_abandoned_folders(file.parent, f"{USING}*")
            self.folder = Path(tempfile.mkdtemp(prefix=USING, dir=file.parent))
            self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            packed = read_sealed(file)
            if packed is not None:
                with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                    archive.extractall(self.folder)
        self._kept = self._names()

    def keep(self) -> None:
        """Keep what was built since.

        Raises:
            BackendUnavailableError: there is no place for it.
        """
        names = self._names()
        if names == self._kept:
            return
        packed = io.BytesIO()
        with keeping(ENGINE, self._file.parent):
            with zipfile.ZipFile(packed, "w") as archive:
                for name in sorted(names):
                    archive.write(self.folder / name, name)
            write_sealed(self._file, packed.getvalue())
        self._kept = names

    def close(self) -> None:
        """Keep what was built, and remove the folder; twice is fine."""
        if self.folder.is_dir():
            self.keep()
        self._remove()

    def _names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


class TensorRTSession:
    """An engine for a range of shapes; see :class:`polyface.plugins.protocols.Session`."""

    def __init__(self, session: OnnxRuntimeSession, detector: DetectorSpec, profile: Profile, engines: Engines) -> None:
        self._session = session
        self._engines = engines
        self._input = detector.input.name
        self._profile = profile
        versions = {**session.execution.versions, "tensorrt": tensorrt_version()}
        self.execution: Execution = attrs.evolve(session.execution, versions=versions)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network on ``(n, 3, h, w)`` float32, at most ``max_batch`` images at a time.

        Raises:
            BackendUnavailableError: the engine was not built for that height and width, or as
                :meth:`OnnxRuntimeSession.run`.
        """
        image = inputs[self._input]
        self._check(*image.shape[2:])
        step = self._profile.max_batch
        parts = [self._session.run({self._input: image[i : i + step]}) for i in range(0, len(image), step)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Let go of the engine; runs under way finish first."""
        self._session.close()
        self._engines.close()

    def _check(self, height: int, width: int) -> None:
        """Refuse what the engine cannot run; ONNX Runtime would say so in TensorRT's words, or build another engine."""
        least, most = self._profile.least, self._profile.most
        if all(low <= side <= high for low, side, high in zip(least, (height, width), most, strict=True)):
            return
        if least == most:
            why = f"it was built for {most[1]}x{most[0]} pixels"
            fix = Fix("make an engine for that size", settings={"infer_size": (height, width)})
        else:
            why = f"it was built for sides from {least[0]} to {most[0]} pixels"
            large, small = max(height, width), min(height, width)
            less = Fix("make an engine for less", settings={"backend_options": {"min_side": small}})
            more = Fix("make an engine for more", settings={"backend_options": {"max_side": large}})
            fix = Fix(settings={"max_side": most[0]}) | more if large > most[0] else less
        raise BackendUnavailableError(
            f"The TensorRT engine does not take a network input of {width}x{height} pixels.", why=[why], fix=fix
        )


def cache_file(graph: Path, request: CompileRequest, profile: Profile) -> Path:
    """Return the file for a graph's engine and timings, in polyface's home.

    An engine is good for one graph, GPU, TensorRT, ONNX Runtime, precision and range of shapes, so all are in the name.
    """
    parts = (
        gpu_name(_index(request.device)),
        f"tensorrt-{tensorrt_version()}",
        f"onnxruntime-{onnxruntime.__version__}",
        request.precision,
        str(profile),
    )
    name = "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part) for part in parts)
    return home() / "tensorrt" / sha256_of(graph) / f"{name}.engines"


def tensorrt_version() -> str:
    """Return TensorRT's version, its libraries loaded: the dynamic loader does not search its wheel.

    Raises:
        BackendUnavailableError: they cannot be loaded.
    """
    try:
        return str(importlib.import_module("tensorrt").__version__)
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(
            "TensorRT cannot be loaded.", why=[f"{type(error).__name__}: {error}"], fix=_WHEELS
        ) from error


def gpu_name(index: int) -> str:
    """Return what the CUDA driver calls a device, which it counts as ONNX Runtime does.

    Raises:
        BackendUnavailableError: there is no driver, or no such device.
    """
    name, device = ctypes.create_string_buffer(256), ctypes.c_int()
    try:
        driver = ctypes.CDLL(CUDA_DRIVER[sys.platform == "win32"])
    except OSError as error:
        raise BackendUnavailableError(
            "There is no NVIDIA driver on this machine.", why=[str(error)], fix=_ON_CPU
        ) from error
    for status in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), index),
        driver.cuDeviceGetName(name, len(name), device),
    ):
        if status:
            raise BackendUnavailableError(
                f"The NVIDIA driver gives no device 'cuda:{index}'.",
                why=[f"its error {status}"],
                fix=Fix("see the devices there are", command="nvidia-smi"),
            )
    return name.value.decode()


def _index(device: str) -> int:
    """The number of a CUDA device; TensorRT has no other."""
    name = indexed(device)
    if name == "cpu":
        raise BackendUnavailableError("TensorRT has no device 'cpu'.", why=["it runs on CUDA only"], fix=_ON_CPU)
    return int(name.removeprefix("cuda:"))


def _precisions() -> tuple[str, ...]:
    return ("fp32", "fp16") if os.environ.get(_TF32) == "0" else ("fp16",)


def _try(device: str) -> None:
    # The graph is one node, and TensorRT is told to leave less than two alone: it comes up without building an engine.
    _open(IDENTITY, CompileRequest(device=device, precision="fp16"), {"trt_min_subgraph_size": "2"})


def _open(model: Path | bytes, request: CompileRequest, options: dict[str, str]) -> onnxruntime.InferenceSession:
    """Open a session with TensorRT; CUDA and the CPU follow for the nodes that TensorRT does not take."""
    index = _index(request.device)
    require_provider(TENSORRT, request, fix=_WHEELS)
    tensorrt_version()
    provider = (TENSORRT, {"device_id": str(index), **options})
    return open_session(model, request, [provider, *cuda_providers(request)], fix=_WHEELS)
