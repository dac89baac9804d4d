"""The faces of images, each as an image of its own."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from polyface.errors import ConfigError, Fix
from polyface.images import faces
from polyface.images.encoding import profile_of
from polyface.results import Detections
from polyface.writers.naming import Names, comment_in, mark_of, one_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from polyface.arrays import ImageArray
    from polyface.results import Result
    from polyface.storage.places import Place

JPEG_QUALITY = 95


class Crops:
    """A folder of faces: those of ``photos/a.jpg`` become ``a-1.jpg``, ``a-2.jpg`` and so on, the best first.

    Names that are another's are passed over; the comment of each face tells whose it is, as in drawings.

    Args:
        place: the folder.
        margin: what is cropped around each face, as of :func:`polyface.crop`.
        align: the size of faces that are aligned instead, as of :func:`polyface.align`.

    Raises:
        ConfigError: the margin or that size is out of range, or both are given.
    """

    def __init__(self, place: Place, *, margin: float = 0.0, align: int | None = None) -> None:
        self._place = place
        self._names = Names(place, lambda stem, number: f"{stem}-{number}.jpg", comment_in)
        if align is not None and margin:
            raise ConfigError(
                "Faces that are aligned have no margin.", fix=Fix("leave one out:", names=("margin", "align"))
            )
        if align is None:
            self._cut: Callable[..., Iterable[ImageArray]] = functools.partial(faces.crop, margin=margin)
        else:
            self._cut = functools.partial(faces.align, size=align)
        self._cut(np.zeros((1, 1, 3), np.uint8), Detections.from_dicts([]))  # raises where a setting is wrong

    def write(self, result: Result) -> Mapping[str, list[str] | None]:
        """Write the faces, of a draft as they are in it; return their paths below the folder, ``None`` of an error.

        Raises:
            ImageError: they cannot be cropped, or not written under their names.
            UnsupportedError: they have not the landmarks that they are aligned by.
            OSError: none can be written.
        """
        if result.image is None or result.item is None or result.error is not None:
            return {"crops": None}
        names, profile = [], profile_of(result.image.profile)
        with one_image("its faces cannot be cropped"):
            for number, face in enumerate(self._cut(result.image, result.faces), 1):
                mark = mark_of(f"face {number}", result.name)
                data = io.BytesIO()
                Image.fromarray(face).save(data, format="JPEG", quality=JPEG_QUALITY, comment=mark, **profile)
                names.append(self._names.claim(result.item.relative.with_suffix(""), mark))
                with self._place.atomic_write(names[-1]) as stream:
                    stream.write(data.getbuffer())
        return {"crops": [name.as_posix() for name in names]}

    def close(self) -> None:
        """Do nothing: every face is whole already."""
