"""Faces in the forms that other projects take them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polyface.optional import needs

if TYPE_CHECKING:
    from polyface.results import Detections

VISIBLE = 2
"""What COCO calls a keypoint that is labelled and can be seen."""


def to_supervision(faces: Detections) -> Any:
    """Return what :meth:`polyface.Detections.to_supervision` does."""
    marks = {} if faces.landmarks is None else {"landmarks": faces.landmarks}
    names = {"class_name": np.full(len(faces), "face")}  # what supervision's labels show
    return needs("supervision", "supervision").Detections(
        xyxy=faces.boxes,
        confidence=faces.scores,
        class_id=np.zeros(len(faces), int),
        data={**names, **marks, **faces.extra},
    )


def to_coco(faces: Iterable[Mapping[str, Any]], image_id: int, category_id: int, first_id: int) -> list[dict[str, Any]]:
    """Return what :meth:`polyface.Detections.to_coco` does, of faces as :meth:`polyface.Face.to_dict` has them."""
    annotations = []
    for number, face in enumerate(faces, first_id):
        x1, y1, x2, y2 = face["box"]
        width, height = round(x2 - x1, 3), round(y2 - y1, 3)
        annotation = {
            "id": number,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [x1, y1, width, height],
            "area": round(width * height, 3),
            "iscrowd": 0,
            "segmentation": [],
            "score": face["score"],
        }
        if points := face.get("landmarks"):
            annotation["keypoints"] = [value for x, y in points for value in (x, y, VISIBLE)]
            annotation["num_keypoints"] = len(points)
        if rest := {name: value for name, value in face.items() if name not in ("box", "score", "landmarks")}:
            annotation["attributes"] = rest
        annotations.append(annotation)
    return annotations
