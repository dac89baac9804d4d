"""Files that somebody else wrote, or that a disk half lost: what comes out is a result or an error of polyface's.

Images are in test_reading.py, checkpoints in the tests of polyface-torch.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyface.errors import ArtifactError, ConfigError, Reason
from polyface.graphs.artifacts import MANIFEST, ArtifactKey, ArtifactStore
from polyface.settings.config import Config
from polyface.settings.loading import load_config

SETTINGS = b"""# polyface.toml
detector = "toy"
score_threshold = 0.5
infer_size = [480, 640]
scales = [0.5, 1, 2]
flip = true
[backend_options]
threads = 2
"""
GRAPH = b"a graph of a few bytes"


@st.composite
def damage(draw):
    """A way to spoil a file: bytes set, put in or taken out, and perhaps an early end."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "insert", "delete"]), st.integers(0, 400), st.binary(min_size=1, max_size=4)
            ),
            min_size=1,
            max_size=6,
        )
    )
    end = draw(st.none() | st.integers(0, 400))

    def spoil(content):
        data = bytearray(content)
        for action, place, text in steps:
            start = place % (len(data) + 1)
            data[start : start + (0 if action == "insert" else len(text))] = b"" if action == "delete" else text
        return bytes(data if end is None else data[: end % (len(data) + 1)])

    return spoil


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@given(spoil=damage())
def test_a_damaged_configuration_loads_or_is_refused(folder, spoil):
    path = folder / "polyface.toml"
    path.write_bytes(spoil(SETTINGS))
    try:
        assert isinstance(load_config(path, environ={}), Config)
    except ConfigError as error:
        assert str(error)


@given(name=st.sampled_from(list(Config().as_dict())), value=json_values)
def test_a_setting_of_any_value_is_taken_or_refused_by_name(name, value):
    try:
        Config(**{name: value})
    except ConfigError as error:
        assert name in error.what


@pytest.fixture(scope="module")
def artifact(folder):
    """A stored graph: its store, its key, and what its manifest says."""
    key = ArtifactKey(detector="toy", network="toy:build", graph_version=1, weights_sha256="ab" * 32, kind="onnx")
    store = ArtifactStore(folder / "artifacts")

    def write(into):
        (into / "toy.onnx").write_bytes(GRAPH)
        return into / "toy.onnx"

    store.put(key, write, {"torch": "2.14"})
    return store, key, (store.root / key.digest / MANIFEST).read_bytes()


def refused(store, key):
    """Why the graph is not used, from the user's cache and from a folder the user named; ``None`` if it is."""
    found = store.find(key)
    named = ArtifactStore(store.root.parent / "nothing", named=store.root)
    if not isinstance(found, Reason):
        assert found == named.find(key)
        assert found.read_bytes() == GRAPH
        return None
    with pytest.raises(ArtifactError) as caught:
        named.find(key)
    assert found.why in caught.value.why
    return found.why


@given(spoil=damage())
def test_a_damaged_manifest_is_refused_or_still_names_the_whole_graph(artifact, spoil):
    store, key, manifest = artifact
    (store.root / key.digest / MANIFEST).write_bytes(spoil(manifest))
    refused(store, key)


@given(
    name=st.sampled_from(["file", "sha256", "detector", "kind", "graph_version", "weights_sha256"]), value=json_values
)
@example(name="file", value="../toy.onnx")
@example(name="file", value="")
@example(name="file", value="\0")
def test_a_manifest_that_says_anything_else_is_refused(artifact, name, value):
    store, key, manifest = artifact
    said = json.loads(manifest)
    (store.root / key.digest / MANIFEST).write_text(json.dumps({**said, name: value}))
    same = json.dumps(value) == json.dumps(said[name])  # True is no 1
    assert (refused(store, key) is None) == same


@given(spoil=damage())
def test_a_damaged_graph_is_refused_by_its_hash(artifact, spoil):
    store, key, manifest = artifact
    (store.root / key.digest / MANIFEST).write_bytes(manifest)
    path = store.root / key.digest / json.loads(manifest)["file"]
    path.write_bytes(spoil(GRAPH))
    try:
        if path.read_bytes() == GRAPH:
            return
        assert refused(store, key).endswith(f"'{path.name}' is damaged: its sha256 is not the one in manifest.json")
    finally:
        path.write_bytes(GRAPH)
