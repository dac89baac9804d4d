"""Images as a network would get them, for a quantizer to calibrate it on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from polyface.images.geometry import place_image, settle_size
from polyface.images.preparing import prepare
from polyface.images.reading import read_image
from polyface.pipeline.views import whole_view
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

SIZING = ("max_side", "infer_size", "fit", "pad_to")
"""The settings that decide at which size a network sees the images it is calibrated on."""


@frozen
class Calibration:
    """The network inputs of images, each read again whenever it is its turn: together they seldom fit into memory.

    The settings named in :data:`SIZING` say at which size the detector's network sees them.
    """

    config: Config
    detector: DetectorSpec
    images: Sequence[Path]

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield each image as ``(1, 3, h, w)`` float32, whole and not mirrored; as often as a fixed batch wants it.

        Raises:
            ImageError: one cannot be read.
            ConfigError: as :func:`polyface.images.geometry.settle_size`.
        """
        config = settle_size(self.config, self.detector)
        for path in self.images:
            image = read_image(path, formats=self.config.formats, max_pixels=self.config.max_pixels)
            view = whole_view(config, *image.shape[:2])
            placement = place_image(config, self.detector, *view.size, view.scale)
            batch = self.detector.fixed_batch or 1
            yield prepare([image] * batch, [placement] * batch, self.detector.preprocess)

    def provenance(self) -> dict[str, str]:
        """Return how many images there are, what tells them from others, and the settings, for the manifest."""
        digest = hashlib.sha256("".join(sha256_of(path) for path in self.images).encode())
        settings = settle_size(self.config, self.detector).as_dict()
        sizing = ", ".join(f"{name}={settings[name]}" for name in SIZING)
        return {"calibration": f"{len(self.images)} images, {sizing}", "calibration_sha256": digest.hexdigest()}
