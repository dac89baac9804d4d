from __future__ import annotations

import importlib.metadata

from polyface_centerface.plugin import polyface_detectors

DETECTOR, _ = polyface_detectors()


def test_the_entry_point_leads_to_the_record():
    (entry,) = importlib.metadata.entry_points(group="polyface", name="centerface")

    assert entry.value == "polyface_centerface.plugin"
    assert DETECTOR.name == "centerface"


def test_the_notice_beside_the_packaged_file_gives_its_hash_and_licence():
    (weights,) = DETECTOR.weights
    notice = (weights.ref.path().parent / "NOTICE.md").read_text()

    assert f"`{weights.filename}` | {weights.size:,} | `{weights.sha256}`" in notice
    assert "MIT License" in notice


def test_the_weights_need_no_download_and_are_the_graph_itself():
    (weights,), (graph,) = DETECTOR.weights, DETECTOR.graphs

    assert weights.ref is not None
    assert (graph.kind, graph.ref, graph.weights) == ("onnx", None, weights.name)
