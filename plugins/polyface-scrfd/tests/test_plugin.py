from __future__ import annotations

import importlib.metadata
import importlib.resources

import pytest

from polyface import fetch_weights
from polyface.errors import WeightsNotFoundError
from polyface.plugins.records import DetectorSpec
from polyface_scrfd.plugin import polyface_detectors

DETECTORS = {spec.name: spec for spec in polyface_detectors() if isinstance(spec, DetectorSpec)}

each_detector = pytest.mark.parametrize("spec", DETECTORS.values(), ids=DETECTORS)


def test_the_entry_point_leads_to_the_records():
    (entry,) = importlib.metadata.entry_points(group="polyface", name="scrfd")

    assert entry.value == "polyface_scrfd.plugin"
    assert sorted(DETECTORS) == ["scrfd-10g", "scrfd-2.5g", "scrfd-500m"]


@each_detector
def test_the_weights_are_the_graph_and_for_research_only(spec):
    (file,), (graph,) = spec.weights, spec.graphs

    assert (graph.kind, graph.ref, graph.weights) == ("onnx-file", None, file.name)
    assert (file.research_only, file.ref) == (True, None)
    assert "non-commercial research" in file.license
    assert all(url.startswith("https://") for url in file.urls)


def test_the_package_holds_no_weights():
    package = importlib.resources.files("polyface_scrfd")
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.suffix for path in files} == {".py", ".typed"}


@each_detector
def test_without_its_file_the_address_and_the_licence_are_told(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYFACE_HOME", str(tmp_path))
    with pytest.raises(WeightsNotFoundError) as caught:
        fetch_weights(spec.name, offline=True)
    assert "licence: non-commercial research only (InsightFace's trained models)" in caught.value.why


@each_detector
def test_the_file_at_hand_has_the_size_of_the_record(spec, published):
    assert published(spec.name).stat().st_size == spec.weights[0].size
