"""Faces as other projects take them."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from polyface.errors import UnsupportedError
from polyface.results import Detections

TWO = Detections(
    boxes=[[1, 2, 11.5, 22], [-3.00049, 0, 4, 8]],
    scores=[0.987654, 0.5],
    landmarks=[[[3, 4.5], [9, 5]], [[0, 1], [2, 1]]],
    extra={"track_id": np.array([7, 8])},
)
PLAIN = Detections(boxes=[[1, 2, 3, 4]], scores=[1])
NONE = Detections.from_dicts([])


class TestCoco:
    def test_is_an_annotation_a_face(self):
        assert TWO.to_coco(42, category_id=3, first_id=10) == [
            {
                "id": 10,
                "image_id": 42,
                "category_id": 3,
                "bbox": [1.0, 2.0, 10.5, 20.0],
                "area": 210.0,
                "iscrowd": 0,
                "segmentation": [],
                "score": 0.98765,
                "keypoints": [3.0, 4.5, 2, 9.0, 5.0, 2],
                "num_keypoints": 2,
                "attributes": {"track_id": 7},
            },
            {
                "id": 11,
                "image_id": 42,
                "category_id": 3,
                "bbox": [-3.0, 0.0, 7.0, 8.0],
                "area": 56.0,
                "iscrowd": 0,
                "segmentation": [],
                "score": 0.5,
                "keypoints": [0.0, 1.0, 2, 2.0, 1.0, 2],
                "num_keypoints": 2,
                "attributes": {"track_id": 8},
            },
        ]

    def test_has_no_keypoints_where_the_detector_gives_none(self):
        [box] = PLAIN.to_coco(5)
        assert box.keys() == {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "score"}
        assert NONE.to_coco(5) == []

    @pytest.mark.parametrize("as_results", [True, False])
    def test_is_read_by_pycocotools_as_results_and_as_a_data_set(self, tmp_path, require, as_results):
        require("pycocotools")
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        image = {"id": 42, "width": 64, "height": 48, "file_name": "a.jpg"}
        data = {
            "info": {},
            "images": [image],
            "categories": [{"id": 1, "name": "face"}],
            "annotations": TWO.to_coco(42),
        }
        (tmp_path / "faces.json").write_text(json.dumps(data))
        truth = COCO(str(tmp_path / "faces.json"))
        found = truth.loadRes(TWO.to_coco(42)) if as_results else truth
        assert [found.anns[number]["bbox"] for number in (1, 2)] == [[1, 2, 10.5, 20], [-3, 0, 7, 8]]
        assert found.anns[1]["keypoints"] == [3, 4.5, 2, 9, 5, 2]
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)  # the average precision of the faces against themselves


class TestSupervision:
    @pytest.fixture
    def taken(self, monkeypatch):
        """A stand-in for supervision, whose ``Detections`` are what they were made of."""
        module = types.ModuleType("supervision")
        module.Detections = dict
        monkeypatch.setitem(sys.modules, "supervision", module)

    @pytest.mark.usefixtures("taken")
    def test_gets_boxes_scores_and_in_data_all_else(self):
        made = TWO.to_supervision()
        data = made.pop("data")
        assert {name: array.tolist() for name, array in made.items()} == {
            "xyxy": TWO.boxes.tolist(),
            "confidence": TWO.scores.tolist(),
            "class_id": [0, 0],
        }
        assert {name: array.tolist() for name, array in data.items()} == {
            "class_name": ["face", "face"],
            "landmarks": TWO.landmarks.tolist(),
            "track_id": [7, 8],
        }
        assert set(PLAIN.to_supervision()["data"]) == {"class_name"}

    def test_that_is_not_installed_is_named_with_the_command_that_installs_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "supervision", None)
        with pytest.raises(UnsupportedError, match=r"^This needs supervision, which cannot be imported\.") as caught:
            PLAIN.to_supervision()
        assert caught.value.fix.command == "pip install supervision"

    @pytest.mark.filterwarnings("ignore")
    def test_itself_takes_and_filters_them(self, require):
        require("supervision")
        made = TWO.to_supervision()
        np.testing.assert_array_equal(made.xyxy, TWO.boxes)
        [best] = made[made.confidence > 0.9].data["landmarks"]
        np.testing.assert_array_equal(best, TWO.landmarks[0])
        assert len(NONE.to_supervision()) == 0
