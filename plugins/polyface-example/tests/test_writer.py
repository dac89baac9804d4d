"""The writer: what every writer must keep, checked by the kit, and what it writes."""

from __future__ import annotations

from polyface.errors import ImageError
from polyface.results import Detections, Result
from polyface.storage.places import Place
from polyface.testing import WriterConformance
from polyface_example.writer import CountsWriter


class TestCounts(WriterConformance):
    writer = "example-counts"


def test_of_each_image_it_writes_how_many_faces_it_has_or_that_it_failed(tmp_path):
    faces = Detections(boxes=[[0, 0, 8, 8], [8, 0, 16, 8]], scores=[0.9, 0.8])
    none = Detections.from_dicts([])
    with Place(tmp_path / "faces.txt", folder=False) as place:
        writer = CountsWriter(place)
        writer.write(Result(name="two faces.jpg", width=16, height=8, faces=faces))
        writer.write(Result(name="none.jpg", width=16, height=8, faces=none))
        writer.write(Result(name="damaged.jpg", error=ImageError("it is damaged")))
        writer.close()
    assert (tmp_path / "faces.txt").read_text() == '2 "two faces.jpg"\n0 "none.jpg"\nfailed "damaged.jpg"\n'
