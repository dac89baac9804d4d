"""The faces of images, each as an image of its own."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from polyface.writers.naming import Names, comment_in, mark_of, one_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyface.results import Result
    from polyface.storage.places import Place

JPEG_QUALITY = 95


class Crops:
    """A folder of faces: those of ``photos/a.jpg`` become ``a-1.jpg``, ``a-2.jpg`` and so on, the best first.

    Names that are another's are passed over; the comment of each face tells whose it is, as in drawings.

    Args:
        place: the folder.
        margin: what is cropped around each face, as of :func:`polyface.crop`.
        size: of faces that are aligned instead, as of :func:`polyface.align`.
    """

    def __init__(self, place: Place, *, margin: float = 0.0, size: int | None = None) -> None:
        self._place = place
        self._names = Names(place, lambda stem, number: f"{stem}-{number}.jpg", comment_in)
        self._margin = margin
        self._size = size

    def write(self, result: Result) -> Mapping[str, list[str] | None]:
        """Write the faces, of a draft as they are in it; return their paths below the folder, ``None`` of an error.

        Raises:
            ImageError: they cannot be cropped, or not written under their names.
            ConfigError: the margin or the size is out of range.
            UnsupportedError: they have not the landmarks that they are aligned by.
            OSError: none can be written.
        """
        if result.image is None or result.item is None or result.error is not None:
            return {"crops": None}
        from PIL import Image

        from polyface.images.faces import align, crop

        names = []
        with one_image("its faces cannot be cropped"):
            if self._size is None:
                faces = crop(result.image, result.faces, margin=self._margin)
            else:
                faces = list(align(result.image, result.faces, size=self._size))
            for number, face in enumerate(faces, 1):
                mark = mark_of(f"face {number}", result.name)
                data = io.BytesIO()
                Image.fromarray(face).save(data, format="JPEG", quality=JPEG_QUALITY, comment=mark)
                names.append(self._names.claim(result.item.relative.with_suffix(""), mark))
                with self._place.atomic_write(names[-1]) as stream:
                    stream.write(data.getbuffer())
        return {"crops": [name.as_posix() for name in names]}

    def close(self) -> None:
        """Do nothing: every face is whole already."""
