from __future__ import annotations

import importlib.metadata
import subprocess
import sys

from polyface.plugins.records import Ref
from polyface_dsfd.plugin import polyface_detectors

(SPEC,) = polyface_detectors()


def test_the_entry_point_leads_to_the_record():
    (entry,) = importlib.metadata.entry_points(group="polyface", name="dsfd")

    assert entry.value == "polyface_dsfd.plugin"
    assert SPEC.name == "dsfd-resnet152"


def test_the_head_loads_where_torch_is_not_wanted():
    code = (
        "import sys; from polyface_dsfd.plugin import polyface_detectors; (spec,) = polyface_detectors();"
        "spec.head.load()(); print({'torch', 'torchvision', 'onnx', 'onnxruntime', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_the_weights_say_that_they_are_for_research_and_where_they_come_from():
    (weights,) = SPEC.weights

    assert "academic research only" in weights.license
    assert "Tencent/FaceDetection-DSFD" in weights.origin
    assert [url.rpartition("/")[2] for url in weights.urls] == [weights.filename]


def test_the_network_is_a_builder_that_asks_for_the_extra_torch():
    (graph,) = SPEC.graphs

    assert (graph.kind, graph.ref) == ("torch-module", Ref("polyface_dsfd.net:resnet152"))
    assert {need.install for need in graph.requires} == {"polyface-dsfd[torch]"}


def test_it_has_no_landmarks():
    assert SPEC.landmarks == ()
    assert [output.name for output in SPEC.outputs] == ["loc", "logits"]
