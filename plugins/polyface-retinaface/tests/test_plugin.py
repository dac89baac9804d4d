from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys

import pytest

from polyface.specs import FileRef, as_json
from polyface_retinaface.plugin import polyface_detectors

DETECTORS = {spec.name: spec for spec in polyface_detectors()}


def test_the_entry_point_leads_to_the_records():
    (entry,) = importlib.metadata.entry_points(group="polyface", name="retinaface")

    assert entry.value == "polyface_retinaface.plugin"
    assert sorted(DETECTORS) == ["retinaface-mobilenet025", "retinaface-resnet50"]


def test_the_entry_module_and_its_records_import_neither_numpy_nor_a_runtime():
    code = (
        "import sys; from polyface_retinaface.plugin import polyface_detectors; list(polyface_detectors());"
        "print({'numpy', 'torch', 'torchvision', 'onnx', 'onnxruntime', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("spec", DETECTORS.values(), ids=DETECTORS)
def test_every_packaged_file_has_the_hash_and_size_of_its_record(spec):
    for file in spec.weights:
        if file.ref is not None:
            content = file.ref.path().read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)
    for graph in spec.graphs:
        if isinstance(graph.ref, FileRef):
            assert hashlib.sha256(graph.ref.path().read_bytes()).hexdigest() == graph.sha256


def test_the_notice_beside_the_packaged_files_gives_their_hashes():
    spec = DETECTORS["retinaface-mobilenet025"]
    notice = (spec.weights[0].ref.path().parent / "NOTICE.md").read_text()

    assert f"`{spec.weights[0].filename}` | {spec.weights[0].size:,} | `{spec.weights[0].sha256}`" in notice
    assert spec.graphs[0].sha256 in notice


def test_the_first_weights_need_no_download_and_are_baked_into_the_onnx_graph():
    spec = DETECTORS["retinaface-mobilenet025"]

    assert spec.weights[0].ref is not None
    assert (spec.graphs[0].kind, spec.graphs[0].weights) == ("onnx", spec.weights[0].name)


@pytest.mark.parametrize("spec", DETECTORS.values(), ids=DETECTORS)
def test_the_records_are_plain_enough_for_json(spec):
    assert json.loads(json.dumps(as_json(spec)))["name"] == spec.name
