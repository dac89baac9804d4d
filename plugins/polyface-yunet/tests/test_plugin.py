from __future__ import annotations

import hashlib
import importlib.metadata

import pytest

from polyface.plugins.records import DetectorSpec
from polyface_yunet.plugin import polyface_detectors

DETECTORS = {spec.name: spec for spec in polyface_detectors() if isinstance(spec, DetectorSpec)}


def test_the_entry_point_leads_to_the_records():
    (entry,) = importlib.metadata.entry_points(group="polyface", name="yunet")

    assert entry.value == "polyface_yunet.plugin"
    assert sorted(DETECTORS) == ["yunet-n", "yunet-s"]


def test_the_default_weights_are_graphs_so_that_nobody_needs_torch():
    for name, kind in (("yunet-n", "onnx"), ("yunet-s", "onnx-file")):
        spec = DETECTORS[name]
        assert (spec.graphs[0].kind, spec.graphs[0].ref, spec.graphs[0].weights) == (kind, None, spec.weights[0].name)


def test_no_weights_are_packaged_and_all_may_be_used_freely():
    files = [file for spec in DETECTORS.values() for file in spec.weights]

    assert {file.license for file in files} == {"Apache-2.0", "MIT"}
    assert not any(file.ref or file.research_only for file in files)


@pytest.mark.shared
def test_the_records_give_size_and_hash_of_the_published_files(published):
    for file in DETECTORS["yunet-n"].weights:
        content = published[file.name].read_bytes()
        assert published[file.name].name == file.filename
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
