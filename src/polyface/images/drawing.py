"""Faces drawn on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from polyface.images.faces import scale_faces

if TYPE_CHECKING:
    from polyface.images.reading import Decoded, ImageSource
    from polyface.results import Detections

BOX = (0, 230, 118)
LANDMARK = (255, 64, 129)
INK = (0, 30, 16)


def draw_faces(image: ImageSource | Decoded, faces: Detections) -> Image.Image:
    """Return a copy of the image with each face's box, score and landmarks.

    Lines and letters grow with the image, so that they can be seen when it is shown at screen size. Around a small face
    lines are thinner, and a score that is more than twice as wide as the face is left out: in a crowd it would cover
    other faces.

    Args:
        image: as :func:`polyface.read_image` takes it, or what :meth:`polyface.FaceDetector.read` returned.
        faces: in pixels of that image; of a draft, in those of the whole image.
    """
    pixels, faces = scale_faces(image, faces)
    drawing = Image.fromarray(pixels)
    pen = ImageDraw.Draw(drawing)
    thin = max(2, round(max(drawing.size) / 500))
    font = ImageFont.load_default(size=7 * thin)
    # The best face last, so that its label lies on top.
    for index in reversed(range(len(faces))):
        x1, y1, x2, y2 = faces.boxes[index].tolist()
        x2, y2 = max(x1, x2), max(y1, y2)
        pen.rectangle((x1, y1, x2, y2), outline=BOX, width=max(1, min(thin, round((x2 - x1) / 12))))
        label = f"{faces.scores[index]:.2f}"
        left, top, right, bottom = pen.textbbox((x1, y1), label, font=font, anchor="lb")
        if right - left <= 2 * (x2 - x1):
            shift = max(0.0, -top)  # a label above the image's edge moves inside
            pen.rectangle((left - thin, top + shift - thin, right + thin, bottom + shift), fill=BOX)
            pen.text((x1, y1 + shift), label, font=font, fill=INK, anchor="lb")
        for x, y in [] if faces.landmarks is None else faces.landmarks[index].tolist():
            radius = max(1.0, min(1.5 * thin, (x2 - x1) / 20))
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LANDMARK)
    return drawing
