"""Weights: which file is meant, where it lies, and whether it is the right one."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

import attrs
import pytest

from polyface.errors import ConfigError, ContractError, UnknownNameError, WeightsMismatchError, WeightsNotFoundError
from polyface.graphs import weights
from polyface.plugins.records import FileRef
from toy_network import SMALLEST

CONTENT = b"twelve bytes"


@pytest.fixture
def detector(detector_spec, weights_file):
    """A detector with two files of weights, of which the first is the default."""
    first = attrs.evolve(weights_file, sha256=hashlib.sha256(CONTENT).hexdigest())
    second = attrs.evolve(weights_file, name="crowd", filename="crowd.pth", sha256="cd" * 32)
    return attrs.evolve(detector_spec, weights=[first, second])


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)
    return path


def place(home, name="wider.pth", content=CONTENT):
    return home / "weights" / hashlib.sha256(content).hexdigest()[:16] / name


def store(home, content):
    path = place(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class TestChoose:
    def test_no_choice_is_the_first_of_the_manifest(self, detector):
        chosen = weights.select_weights(detector, None)
        assert (chosen.name, chosen.sha256, chosen.own) == ("wider", detector.weights[0].sha256, None)

    def test_a_name_is_an_entry_of_the_manifest(self, detector):
        assert weights.select_weights(detector, "crowd").file == detector.weights[1]

    def test_a_path_is_the_users_own_file_with_its_own_hash(self, detector, own):
        chosen = weights.select_weights(detector, str(own))
        assert (chosen.own, chosen.file, chosen.name, chosen.label) == (own, None, None, str(own))
        assert chosen.sha256 == hashlib.sha256(CONTENT).hexdigest()

    def test_a_graph_of_the_users_is_weights_too(self, detector, own, monkeypatch):
        monkeypatch.chdir(own.parent)
        graph = own.rename("mine.ONNX")
        with pytest.raises(WeightsMismatchError, match=rf"^{own.parent}/mine.ONNX is not a whole ONNX file"):
            weights.select_weights(detector, "mine.ONNX")
        graph.write_bytes(SMALLEST)
        assert weights.select_weights(detector, "mine.ONNX").own_graph
        assert not weights.select_weights(detector, str(graph.rename("mine.pt").absolute())).own_graph
        assert not weights.select_weights(detector, "crowd").own_graph

    def test_a_relative_path_is_made_absolute(self, detector, own, monkeypatch):
        monkeypatch.chdir(own.parent)
        assert weights.select_weights(detector, "mine.pth").own == own

    def test_a_detector_without_weights_has_none(self, detector_spec):
        chosen = weights.select_weights(detector_spec, None)
        assert (chosen.label, chosen.sha256, chosen.locate()) == ("none", "", None)

    def test_an_unknown_name_offers_the_nearest_and_lists_what_there_is(self, detector):
        with pytest.raises(UnknownNameError) as caught:
            weights.select_weights(detector, "widr")
        assert caught.value.what == "'toy' has no weights named 'widr'; did you mean 'wider'?"
        assert caught.value.why == ("it has: wider, crowd",)
        assert str(caught.value.fix) == "name one of these, or a file that ends in .pth, .pt, .safetensors, .onnx"

    def test_a_path_to_nothing_is_not_found(self, detector, tmp_path):
        with pytest.raises(WeightsNotFoundError) as caught:
            weights.select_weights(detector, str(tmp_path / "gone.pt"))
        assert caught.value.what == f"There is no file of weights at {tmp_path / 'gone.pt'}."
        assert "by their sha256, so the file must be here" in caught.value.why[0]

    @pytest.mark.parametrize("name", ["folder.onnx", "folder.pth"])
    def test_a_folder_is_said_to_be_one(self, detector, tmp_path, name):
        (tmp_path / name).mkdir()
        with pytest.raises(WeightsNotFoundError) as caught:
            weights.select_weights(detector, str(tmp_path / name))
        assert caught.value.what == f"{tmp_path / name} is a folder, and no file of weights."
        assert str(caught.value.fix) == "name the file in it"

    @pytest.mark.parametrize(
        ("choice", "path"),
        [("wider", False), ("v1.5", False), ("a/wider", True), ("wider.PTH", True), ("w.safetensors", True)],
    )
    def test_a_slash_or_a_checkpoints_ending_makes_a_path(self, choice, path):
        assert weights.is_path(choice) is path


class TestLocate:
    def test_a_file_in_the_weights_folder_is_found(self, detector, home):
        path = store(home, CONTENT)
        assert weights.select_weights(detector, None).locate() == path

    def test_two_files_of_one_name_lie_side_by_side(self, detector, home):
        other = attrs.evolve(detector.weights[0], sha256=hashlib.sha256(b"other").hexdigest())
        paths = [weights.path_of(file) for file in (detector.weights[0], other)]
        assert paths == [place(home), place(home, content=b"other")]
        assert paths[0] != paths[1]

    def test_missing_weights_print_the_command_that_fetches_them(self, detector, home):
        with pytest.raises(WeightsNotFoundError) as caught:
            weights.select_weights(detector, None).locate()
        path = place(home)
        assert caught.value.what == "The weights 'wider' of 'toy' are not on this machine."
        assert caught.value.why == (f"looked for {path}", "licence: MIT")
        assert str(caught.value.fix) == "polyface fetch toy"

    @pytest.mark.parametrize(
        ("name", "command"), [("wider", "polyface fetch toy"), ("crowd", "polyface fetch toy --weights crowd")]
    )
    def test_the_command_names_weights_that_are_not_the_default(self, detector, name, command):
        with pytest.raises(WeightsNotFoundError) as caught:
            weights.select_weights(detector, name).locate()
        assert str(caught.value.fix) == command

    @pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"!"])
    def test_a_damaged_file_is_refused_with_both_hashes(self, detector, home, content):
        path = store(home, content)
        with pytest.raises(WeightsMismatchError) as caught:
            weights.select_weights(detector, None).locate()
        assert caught.value.what == f"{path} is not the file it should be."
        assert caught.value.why == (
            f"sha256 {hashlib.sha256(content).hexdigest()}",
            f"expected {hashlib.sha256(CONTENT).hexdigest()}",
            f"{len(content)} bytes",
        )
        assert str(caught.value.fix) == "polyface fetch toy"

    def test_the_users_own_file_is_taken_as_it_is(self, detector, own):
        assert weights.select_weights(detector, str(own)).locate() == own


class TestPackaged:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        folder = tmp_path / "packed_weights"
        folder.mkdir()
        (folder / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        yield folder
        sys.modules.pop("packed_weights", None)

    @pytest.fixture
    def chosen(self, detector):
        packed = attrs.evolve(detector.weights[0], ref=FileRef("packed_weights:wider.pth"), urls=())
        return weights.select_weights(attrs.evolve(detector, weights=[packed]), None)

    def test_packaged_weights_are_found_in_their_package(self, package, chosen):
        (package / "wider.pth").write_bytes(CONTENT)
        assert chosen.locate() == package / "wider.pth"

    def test_packaged_weights_are_verified_too(self, package, chosen):
        (package / "wider.pth").write_bytes(b"other")
        with pytest.raises(WeightsMismatchError) as caught:
            chosen.locate()
        assert str(caught.value.fix) == "reinstall packed_weights"

    @pytest.mark.usefixtures("package")
    def test_packaged_weights_that_are_gone_name_the_package(self, chosen):
        with pytest.raises(ContractError, match=r"'packed_weights:wider.pth' cannot be found"):
            chosen.locate()


def test_home_is_the_named_folder_or_the_users_cache(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("POLYFACE_HOME", "~/faces")
    assert weights.home() == Path("/home/me/faces")
    monkeypatch.setenv("POLYFACE_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/.cache")
    assert weights.home().name == "polyface"


def test_a_damaged_file_with_no_other_remedy_is_to_be_deleted(tmp_path):
    path = store(tmp_path / "my files", b"cut")
    with pytest.raises(WeightsMismatchError) as caught:
        weights.verify(path, "ab" * 32)
    assert shlex.split(str(caught.value.fix))[-2:] == ["rm", str(path)]


def test_the_hash_is_sha256(own):
    # From the standard's own example, FIPS 180-2: "abc".
    own.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert weights.sha256_of(own) == digest
    assert weights.verify(own, digest) == own


class TestWithoutAHome:
    """As under any user id in a container: no HOME, and no entry in passwd."""

    @pytest.fixture(autouse=True)
    def nobody(self, monkeypatch):
        for name in ("HOME", "XDG_CACHE_HOME", "POLYFACE_HOME"):
            monkeypatch.delenv(name, raising=False)

        def unknown(_):
            raise KeyError("no such user")

        monkeypatch.setattr("pwd.getpwuid", unknown)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has its caches below HOME alone")
    def test_the_error_says_which_variable_to_set(self):
        with pytest.raises(ConfigError, match="It is not known where this user's files lie") as caught:
            weights.home()
        assert str(caught.value.fix) == "set POLYFACE_HOME to a folder that can be written to"

    def test_the_variable_is_enough(self, monkeypatch, tmp_path):
        monkeypatch.setenv("POLYFACE_HOME", str(tmp_path))
        assert weights.home() == tmp_path

    def test_a_version_of_platformdirs_that_leaves_the_tilde_is_no_better(self, monkeypatch):
        monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/polyface"))
        with pytest.raises(ConfigError, match=r"it would be ~/\.cache/polyface"):
            weights.home()
