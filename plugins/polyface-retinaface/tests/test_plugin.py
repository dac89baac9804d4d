from __future__ import annotations

import importlib.metadata

from polyface_retinaface.plugin import polyface_detectors

DETECTORS = {spec.name: spec for spec in polyface_detectors()}


def test_the_entry_point_leads_to_the_records():
    (entry,) = importlib.metadata.entry_points(group="polyface", name="retinaface")

    assert entry.value == "polyface_retinaface.plugin"
    assert sorted(DETECTORS) == ["retinaface", "retinaface-mobilenet025", "retinaface-resnet50", "ssd"]


def test_the_notice_beside_the_packaged_files_gives_their_hashes():
    spec = DETECTORS["retinaface-mobilenet025"]
    notice = (spec.weights[0].ref.path().parent / "NOTICE.md").read_text()

    assert f"`{spec.weights[0].filename}` | {spec.weights[0].size:,} | `{spec.weights[0].sha256}`" in notice
    packaged = [graph for graph in spec.graphs if graph.sha256]
    assert [graph.kind for graph in packaged] == ["onnx", "onnx-int8"]
    for graph in packaged:
        size = graph.ref.path().stat().st_size
        assert f"`{graph.ref.path().name}` | {size:,} | `{graph.sha256}`" in notice


def test_the_first_weights_need_no_download_and_are_baked_into_the_onnx_graph():
    spec = DETECTORS["retinaface-mobilenet025"]

    assert spec.weights[0].ref is not None
    assert (spec.graphs[0].kind, spec.graphs[0].weights) == ("onnx", spec.weights[0].name)
