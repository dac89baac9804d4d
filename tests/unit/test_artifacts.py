"""Stored graphs: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyface.errors import ArtifactError, ConfigError, Fix, Reason
from polyface.graphs.artifacts import MANIFEST, ArtifactKey, ArtifactStore, read_manifest
from polyface.plugins.records import Ref

KEY = ArtifactKey(detector="toy", network="toy_faces.net:build", graph_version=1, weights_sha256="ab" * 32, kind="onnx")


def writer(content=b"graph", name="toy.onnx"):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def stored(store):
    """The path of a graph that was stored."""
    return store.put(KEY, writer(), {"torch": "2.14"})


def rewrite(path, **changes):
    manifest = path.parent / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


def refusal(store, key=KEY):
    reason = store.find(key)
    assert isinstance(reason, Reason)
    return reason


def test_what_was_put_is_found(store, stored):
    assert store.find(KEY) == stored
    assert stored.read_bytes() == b"graph"


def test_the_manifest_holds_the_key_the_hash_and_the_provenance(stored):
    assert json.loads((stored.parent / MANIFEST).read_text()) == {
        "detector": "toy",
        "network": "toy_faces.net:build",
        "graph_version": 1,
        "weights_sha256": "ab" * 32,
        "kind": "onnx",
        "file": stored.name,
        "sha256": hashlib.sha256(b"graph").hexdigest(),
        "provenance": {"torch": "2.14"},
    }


def test_the_file_is_named_by_its_content(stored):
    assert stored.name == f"toy.{hashlib.sha256(b'graph').hexdigest()[:16]}.onnx"


def test_by_default_artifacts_lie_in_polyfaces_home(home):
    assert ArtifactStore().root == home / "artifacts"


def test_nothing_stored_is_a_reason_and_makes_no_folder(store):
    assert refusal(store) == Reason(subject="onnx artifact", why=f"none is stored in {store.root}")
    assert not store.root.exists()


@pytest.mark.parametrize(
    "change", [{"detector": "toy2"}, {"graph_version": 2}, {"weights_sha256": "cd" * 32}, {"kind": "other"}]
)
def test_every_field_of_the_key_makes_another_artifact(store, stored, change):
    other = attrs.evolve(KEY, **change)
    assert other.digest != KEY.digest
    assert "none is stored" in refusal(store, other).why


def test_the_key_of_a_detector_needs_no_converter(detector_spec):
    assert ArtifactKey.of(detector_spec, "ab" * 32, "onnx") == KEY


class TestRefused:
    def test_a_damaged_graph(self, store, stored):
        stored.write_bytes(b"gra")
        folder = stored.parent
        assert refusal(store) == Reason(
            subject="onnx artifact",
            why=f"{folder} is refused: '{stored.name}' is damaged: its sha256 is not the one in {MANIFEST}",
            fix=Fix(command=f"rm -r {folder} && polyface export toy --to onnx"),
        )

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"detector": "other"}, "it is of another detector: 'other', not 'toy'"),
            ({"graph_version": 2}, "it is of another graph version: 2, not 1"),
            ({"file": "../toy.onnx"}, f"ValueError: {MANIFEST} names a file outside the folder"),
            ({"file": "/etc/hostname"}, f"ValueError: {MANIFEST} names a file outside the folder"),
            ({"file": "gone.onnx"}, f"'gone.onnx', which {MANIFEST} names, is no file"),
            ({"file": ".."}, f"'..', which {MANIFEST} names, is no file"),
            ({"file": "a\0b"}, "'a\\x00b', which"),
            ({"file": None}, f"ValueError: {MANIFEST} has no 'file'"),
            ({"sha256": None}, f"ValueError: {MANIFEST} has no 'sha256'"),
            ({"sha256": "ab"}, "'toy."),
            ({"graph_version": True}, f"ValueError: {MANIFEST} has no 'graph_version'"),
            ({"provenance": [1]}, f"ValueError: {MANIFEST} has no 'provenance'"),
            ({"provenance": {"torch": 2}}, f"ValueError: {MANIFEST} has a 'provenance' that is not of texts"),
            ({"x": float("nan")}, "ValueError: "),
        ],
    )
    def test_a_manifest_of_another_graph_or_of_none(self, store, stored, change, why):
        rewrite(stored, **change)
        assert refusal(store).why.startswith(f"{stored.parent} is refused: {why}")

    def test_a_folder_without_a_manifest(self, store, stored):
        (stored.parent / MANIFEST).unlink()
        assert "FileNotFoundError" in refusal(store).why

    def test_a_file_where_the_folder_should_be(self, store):
        store.root.mkdir()
        (store.root / KEY.digest).write_text("not a folder")
        assert "there is no file" in refusal(store).why

    def test_a_manifest_too_deep_to_parse(self, store, stored):
        (stored.parent / MANIFEST).write_bytes(b"[" * 100_000)
        assert refusal(store).why.endswith("is nested too deep")

    @pytest.mark.parametrize("change", [{"detector": "\x1b[2J" * 1000}, {"kind": "k" * 10_000}])
    def test_what_it_says_is_shown_in_one_short_line_without_escape_sequences(self, store, stored, change):
        rewrite(stored, **change)
        why = refusal(store).why
        assert why.isprintable()
        assert len(why) < 400

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
    @pytest.mark.parametrize("what", ["graph", "manifest"])
    def test_a_pipe_is_not_waited_for(self, store, stored, what):
        path = stored if what == "graph" else stored.parent / MANIFEST
        path.unlink()
        os.mkfifo(path)
        assert "no file" in refusal(store).why

    @given(
        st.binary(max_size=60)
        | st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.just("toy.onnx"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["file", "sha256", "kind", "detector", "x"]), inner, max_size=4)
            ),
            max_leaves=8,
        ).map(lambda thing: json.dumps(thing).encode())
    )
    @example(b'{"file": "\\u0000"}')
    @example(b'{"file": "toy.onnx"}')
    def test_any_other_manifest(self, manifest):
        with tempfile.TemporaryDirectory() as name:
            store = ArtifactStore(Path(name))
            path = store.put(KEY, writer(), {})
            (path.parent / MANIFEST).write_bytes(manifest)
            assert refusal(store).why.startswith(f"{path.parent} is refused: ")


class TestNamed:
    """A folder that the user named is searched first, and what is wrong with it is an error."""

    @pytest.fixture
    def named(self, store, tmp_path):
        return ArtifactStore(store.root, named=tmp_path / "named folder")

    @pytest.fixture
    def exported(self, named):
        return ArtifactStore(named.named).put(KEY, writer(b"exported"), {})

    @pytest.mark.usefixtures("stored")
    def test_its_graph_is_taken_before_the_caches(self, named, exported):
        assert named.find(KEY) == exported

    def test_the_cache_is_searched_where_it_has_none(self, named, stored):
        named.named.mkdir()
        assert named.find(KEY) == stored

    def test_without_any_both_are_named(self, named):
        assert refusal(named).why == f"none is stored in {named.named} or {named.root}"

    def test_it_is_never_written_to(self, named):
        assert named.put(KEY, writer(), {}).is_relative_to(named.root)
        assert not named.named.exists()

    @pytest.mark.usefixtures("stored")
    @pytest.mark.parametrize("other", ["a damaged graph", "another detector"])
    def test_a_wrong_graph_in_it_is_refused_even_if_the_cache_has_a_good_one(self, named, exported, other):
        if other == "a damaged graph":
            exported.write_bytes(b"exp")
        else:
            rewrite(exported, detector="else")
        with pytest.raises(ArtifactError) as caught:
            named.find(KEY, ["polyface", "export", "toy", "--weights", "my.pth"])
        assert caught.value.what == "The exported graph of 'toy' cannot be used."
        assert caught.value.why[0].startswith(f"{exported.parent} is refused: ")
        assert str(caught.value.fix) == (
            f"rm -r '{exported.parent}' && polyface export toy --weights my.pth --output '{named.named}'"
        )


def test_one_that_is_there_is_replaced_only_where_that_is_asked_for(store, stored):
    assert store.put(KEY, writer(b"another"), {}).read_bytes() == stored.read_bytes() != b"another"
    assert store.put(KEY, writer(b"another"), {"by": "me"}, replace=True).read_bytes() == b"another"
    assert store.find(KEY).read_bytes() == b"another"
    assert read_manifest(store.find(KEY).parent)["provenance"] == {"by": "me"}
    assert [path.name for path in store.root.iterdir()] == [KEY.digest]


def aged(path, days=2):
    os.utime(path, (time.time() - days * 86_400,) * 2)


class TestReplacing:
    def test_whoever_found_the_one_before_can_still_read_it(self, store, stored):
        store.put(KEY, writer(b"another"), {}, replace=True)
        assert stored.read_bytes() == b"graph"

    def test_the_one_before_is_removed_a_day_after_it_was_replaced(self, store, stored):
        aged(stored)
        second = store.put(KEY, writer(b"second"), {}, replace=True)
        aged(second)
        third = store.put(KEY, writer(b"third"), {}, replace=True)
        assert stored.exists()  # it had not been replaced for a day
        aged(stored)
        store.put(KEY, writer(b"third"), {}, replace=True)
        assert {path.name for path in third.parent.iterdir()} == {second.name, third.name, MANIFEST}

    def test_by_the_same_again_changes_nothing(self, store, stored):
        aged(stored)
        assert store.put(KEY, writer(), {}, replace=True) == stored
        aged(stored)
        assert store.put(KEY, writer(), {}, replace=True).read_bytes() == b"graph"

    @pytest.mark.usefixtures("stored")
    def test_no_writer_fails_and_no_reader_sees_none_or_half_of_one(self, store):
        contents = [bytes([index]) * 1000 for index in range(6)]
        together, over = Barrier(6), Event()

        def write(content):
            together.wait(timeout=10)
            for _ in range(5):
                assert store.put(KEY, writer(content), {}, replace=True).read_bytes() == content

        def read():
            together.wait(timeout=10)
            seen = set()
            while not over.is_set():
                found = store.find(KEY)
                assert isinstance(found, Path), found
                seen.add(found.read_bytes())
            return seen

        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            writers = [pool.submit(write, content) for content in contents[:4]]
            failures = [one.exception(timeout=60) for one in writers]
            over.set()
            assert failures == [None] * 4
            assert all(one.result(timeout=60) <= {b"graph", *contents} for one in readers)
        assert [path.name for path in store.root.iterdir()] == [KEY.digest]


class TestOthers:
    """Where there is none, what is nearly it is named: the wrong weights are easily chosen."""

    @pytest.mark.usefixtures("stored")
    def test_other_weights_and_versions_of_the_same_detector_are_named(self, store):
        wanted = attrs.evolve(KEY, weights_sha256="cd" * 32, graph_version=2)
        assert refusal(store, wanted).why == (
            f"none is stored in {store.root} of the weights cdcdcdcdcdcd (graph version 2); "
            "there is one of the weights abababababab (graph version 1)"
        )

    @pytest.mark.usefixtures("stored")
    def test_the_same_weights_prepared_otherwise_are_told_apart(self, store):
        why = refusal(store, attrs.evolve(KEY, network="image[1, 3, 64, 64] rgb")).why
        assert why.endswith("; there is one of these, for input prepared otherwise or of another network")

    @pytest.mark.usefixtures("stored")
    @pytest.mark.parametrize("field", ["detector", "kind"])
    def test_graphs_of_other_detectors_and_kinds_are_not(self, store, field):
        assert refusal(store, attrs.evolve(KEY, **{field: "other"})).why == f"none is stored in {store.root}"

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"detector": "toy", "kind": "onnx"}', b"[" * 100_000])
    def test_whatever_else_lies_there_is_passed_over(self, store, content):
        (store.root / "stray").mkdir(parents=True)
        (store.root / "stray" / MANIFEST).write_bytes(content)
        assert refusal(store).why == f"none is stored in {store.root}"


class TestPut:
    def test_a_failing_writer_leaves_nothing_behind(self, store):
        def fail(folder):
            (folder / "half").write_bytes(b"half")
            raise RuntimeError("no opset")

        with pytest.raises(RuntimeError, match="no opset"):
            store.put(KEY, fail, {})
        assert list(store.root.iterdir()) == []

    def test_a_writer_that_writes_nothing_leaves_nothing_behind(self, store):
        with pytest.raises(FileNotFoundError):
            store.put(KEY, lambda folder: folder / "gone.onnx", {})
        assert list(store.root.iterdir()) == []

    def test_what_killed_writers_left_is_removed_once_nothing_was_written_into_it_for_a_day(self, store):
        ages = {".new-old": (2, 2), ".new-used": (2, 0), ".new-now": (0, 2), "other": (2, 2)}
        for name, (folder_age, file_age) in ages.items():
            (store.root / name).mkdir(parents=True)
            (store.root / name / "a").touch()
            aged(store.root / name / "a", file_age)
            aged(store.root / name, folder_age)
        store.put(attrs.evolve(KEY, kind="other"), writer(), {})
        names = {path.name for path in store.root.iterdir()}
        assert {name for name in names if len(name) < 64} == {".new-used", ".new-now", "other"}

    def test_the_writer_is_given_an_empty_folder(self, store):
        seen = []

        def write(folder):
            seen.extend(folder.iterdir())
            return writer()(folder)

        store.put(KEY, write, {})
        assert seen == []

    def test_the_first_to_arrive_is_kept(self, store, stored):
        assert store.put(KEY, writer(b"later"), {}) == stored
        assert stored.read_bytes() == b"graph"
        assert [folder.name for folder in store.root.iterdir()] == [KEY.digest]

    @pytest.mark.parametrize("damage", ["graph", "manifest"])
    def test_a_damaged_artifact_is_replaced(self, store, stored, damage):
        (stored if damage == "graph" else stored.parent / MANIFEST).write_bytes(b"")
        again = store.put(KEY, writer(b"again"), {})
        assert again.read_bytes() == b"again"
        assert store.find(KEY) == again

    def test_a_half_written_artifact_is_replaced(self, store):
        half = store.root / KEY.digest
        half.mkdir(parents=True)
        (half / "toy.onnx").write_bytes(b"gra")
        assert store.put(KEY, writer(), {}).read_bytes() == b"graph"

    def test_other_users_of_the_machine_may_read_it(self, stored):
        assert stored.parent.stat().st_mode & 0o777 == 0o755

    def test_two_writers_at_once_leave_one_whole_artifact(self, store):
        for version in range(10):
            key = attrs.evolve(KEY, graph_version=version + 1)
            together = Barrier(4)

            def write(folder, together=together):
                path = writer(folder.name.encode())(folder)
                together.wait(timeout=10)
                return path

            with ThreadPoolExecutor(4) as pool:
                paths = list(pool.map(lambda _, key=key, write=write: store.put(key, write, {}), range(4)))
            assert set(paths) == {store.find(key)}
        assert len(list(store.root.iterdir())) == 10


def test_two_distributions_that_share_a_detectors_name_share_no_graph(detector_spec):
    other = attrs.evolve(
        detector_spec, graphs=[attrs.evolve(detector_spec.graphs[0], ref=Ref("other_faces.net:build"))]
    )
    one, two = (ArtifactKey.of(spec, "", "onnx") for spec in (detector_spec, other))
    assert (one.network, two.network) == ("toy_faces.net:build", "other_faces.net:build")
    assert one.digest != two.digest


def test_a_graph_that_cannot_take_its_place_is_an_error_and_leaves_nothing(store, monkeypatch):
    def fail(path, target, **_):
        raise OSError(f"cannot move to {target}")

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="cannot move to"):
        store.put(KEY, writer(), {})
    assert list(store.root.iterdir()) == []


def test_the_command_that_removes_a_damaged_folder_is_quoted(tmp_path):
    store = ArtifactStore(tmp_path / "my home")
    path = store.put(KEY, writer(), {})
    path.write_bytes(b"damaged")
    assert shlex.split(str(store.find(KEY).fix))[:3] == ["rm", "-r", str(path.parent)]


def test_without_a_home_nothing_is_stored_and_nothing_stops(monkeypatch):
    def homeless():
        raise ConfigError("It is not known where this user's files lie.", why=["no HOME"])

    monkeypatch.setattr("polyface.graphs.artifacts.home", homeless)
    store = ArtifactStore()
    assert refusal(store).why == "It is not known where this user's files lie; no HOME"
    with pytest.raises(ConfigError):
        store.put(KEY, writer(), {})


def test_without_a_home_the_named_folder_is_searched(monkeypatch, stored, store):
    def homeless():
        raise ConfigError("It is not known where this user's files lie.")

    monkeypatch.setattr("polyface.graphs.artifacts.home", homeless)
    assert ArtifactStore(named=store.root).find(KEY) == stored


def test_a_home_that_may_not_be_searched_stores_nothing(monkeypatch, store):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    reason = refusal(store)
    assert (reason.why.startswith("[Errno 13] Permission denied: "), str(reason.fix)) == (True, "")
