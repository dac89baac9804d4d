"""Images with their faces drawn."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from polyface.writers.naming import Names, comment_in, mark_of, one_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyface.results import Result
    from polyface.storage.places import Place

JPEG_QUALITY = 90


class Drawings:
    """A folder of drawings: ``photos/a.jpg`` becomes ``a_out.jpg``, or ``a-2_out.jpg`` where that is another's.

    The comment of each drawing tells whose it is, so that only the drawing of the same image is ever replaced.

    Args:
        place: the folder.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._names = Names(place, _add_number, comment_in)

    def write(self, result: Result) -> Mapping[str, str | None]:
        """Draw a result, a draft as it is, and return the path of the ``drawing`` below the folder; of an error none.

        Raises:
            ImageError: it cannot be drawn, or not written under its name.
            OSError: none can be written.
        """
        if result.image is None or result.item is None or result.error is not None:
            return {"drawing": None}
        from polyface.images.drawing import draw_faces
        from polyface.images.encoding import profile_of

        mark = mark_of("faces", result.name)
        data = io.BytesIO()  # Pillow itself does not notice when a disk takes only a part
        with one_image("its faces cannot be drawn"):
            # Colours in full: those of thin lines would fade.
            settings = {"quality": JPEG_QUALITY, "subsampling": 0, "comment": mark}
            settings |= profile_of(result.image.profile)
            draw_faces(result.image, result.faces).save(data, format="JPEG", **settings)
            name = self._names.claim(result.item.relative.with_suffix(""), mark)
            with self._place.atomic_write(name) as stream:
                stream.write(data.getbuffer())
        return {"drawing": name.as_posix()}

    def close(self) -> None:
        """Do nothing: every drawing is whole already."""


def _add_number(stem: str, number: int) -> str:
    return f"{stem}_out.jpg" if number == 1 else f"{stem}-{number}_out.jpg"
