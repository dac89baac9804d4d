"""polyface: any face detector on any runtime, behind one small API.

Names are imported on first use (PEP 562), so ``import polyface`` loads neither NumPy nor Pillow nor a runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from polyface._version import __version__ as __version__

if TYPE_CHECKING:  # `as` says that the names are ours to give: mypy cannot read the computed __all__
    from polyface.building import available_backends as available_backends
    from polyface.building import available_detectors as available_detectors
    from polyface.building import create_detector as create_detector
    from polyface.errors import AmbiguousNameError as AmbiguousNameError
    from polyface.errors import ArtifactError as ArtifactError
    from polyface.errors import BackendUnavailableError as BackendUnavailableError
    from polyface.errors import ClosedError as ClosedError
    from polyface.errors import ConfigError as ConfigError
    from polyface.errors import ContractError as ContractError
    from polyface.errors import EvaluationError as EvaluationError
    from polyface.errors import Fix as Fix
    from polyface.errors import ImageError as ImageError
    from polyface.errors import NumericalError as NumericalError
    from polyface.errors import OutOfMemoryError as OutOfMemoryError
    from polyface.errors import PluginError as PluginError
    from polyface.errors import PolyfaceError as PolyfaceError
    from polyface.errors import Reason as Reason
    from polyface.errors import UnknownNameError as UnknownNameError
    from polyface.errors import UnsupportedError as UnsupportedError
    from polyface.errors import WeightsError as WeightsError
    from polyface.errors import WeightsMismatchError as WeightsMismatchError
    from polyface.errors import WeightsNotFoundError as WeightsNotFoundError
    from polyface.graphs.fetch import fetch_weights as fetch_weights
    from polyface.images.drawing import draw_faces as draw_faces
    from polyface.images.faces import align as align
    from polyface.images.faces import anonymize as anonymize
    from polyface.images.faces import crop as crop
    from polyface.images.reading import read_image as read_image
    from polyface.pipeline.detector import FaceDetector as FaceDetector
    from polyface.plugins.hookspecs import hookimpl as hookimpl
    from polyface.plugins.manager import PluginManager as PluginManager
    from polyface.results import Detections as Detections
    from polyface.results import Face as Face
    from polyface.results import Item as Item
    from polyface.results import Result as Result
    from polyface.settings.config import Config as Config
    from polyface.settings.loading import load_config as load_config

_NAMES_IN = {
    "building": "available_backends available_detectors create_detector",
    "errors": """
        AmbiguousNameError ArtifactError BackendUnavailableError ClosedError ConfigError ContractError EvaluationError
        Fix ImageError NumericalError OutOfMemoryError PluginError PolyfaceError Reason UnknownNameError
        UnsupportedError WeightsError WeightsMismatchError WeightsNotFoundError
    """,
    "graphs.fetch": "fetch_weights",
    "images.drawing": "draw_faces",
    "images.faces": "align anonymize crop",
    "images.reading": "read_image",
    "pipeline.detector": "FaceDetector",
    "plugins.hookspecs": "hookimpl",
    "plugins.manager": "PluginManager",
    "results": "Detections Face Item Result",
    "settings.config": "Config",
    "settings.loading": "load_config",
}
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names.split()}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604, RUF100 - a test compares it with the imports above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'polyface' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"polyface.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
