"""Configuration files that are found: whose take part, where they may lead, and what is said of those left out."""

from __future__ import annotations

import logging
import os
import pwd
import stat

import pytest

from polyface.errors import ConfigError
from polyface.settings.config import Config
from polyface.settings.files import DEEPEST_KEY, LARGEST_FILE
from polyface.settings.loading import load_config

ME, EVE = 1000, 54321


@pytest.fixture(autouse=True)
def owners(monkeypatch):
    """Everything belongs to the user 1000, who runs this, but for the paths that a test gives to others."""
    given = {}
    real = os.stat

    def look(path, **options):
        status = real(path, **options)
        followed = options.get("follow_symlinks", True) and isinstance(path, str | os.PathLike)
        owner = given.get(os.path.realpath(path) if followed else str(path), ME)
        return os.stat_result([owner if at == stat.ST_UID else value for at, value in enumerate(status)])

    monkeypatch.setattr(os, "stat", look)
    monkeypatch.setattr(os, "geteuid", lambda: ME)

    def give(path, owner):
        given[str(path)] = owner

    return give


@pytest.fixture
def load(tmp_path, caplog):
    """Load the settings found from a folder on; ``load.said`` is what was logged, with its level."""

    def run(folder=tmp_path, environ=None, **overrides):
        caplog.clear()
        with caplog.at_level(logging.INFO, "polyface.settings"):
            config = load_config(directory=folder, environ=environ or {}, **overrides)
        run.said = [(record.levelname, record.getMessage()) for record in caplog.records]
        return config

    return run


class TestWhoseFilesTakePart:
    def test_a_file_of_the_user_takes_part_without_a_word(self, tmp_path, load):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        assert load().pad_to == 64
        assert load.said == []

    @pytest.mark.parametrize("name", ["polyface.toml", "pyproject.toml"])
    def test_a_file_of_another_user_is_left_out_with_the_remedy(self, tmp_path, owners, load, name):
        path = tmp_path / name
        path.write_text("[tool.polyface]\npad_to = 64\n")
        owners(path, EVE)
        assert load() == Config()
        assert load.said == [
            (
                "WARNING",
                f"{path} is left out: it belongs to the user with the id 54321; to use it all the same: "
                f"--config {path}",
            )
        ]

    def test_a_file_of_another_user_is_not_even_read_for_its_faults(self, tmp_path, owners, load):
        (tmp_path / "polyface.toml").write_text("no toml")
        owners(tmp_path / "polyface.toml", EVE)
        assert load() == Config()

    def test_a_named_file_counts_whoever_owns_it(self, tmp_path, owners):
        path = tmp_path / "polyface.toml"
        path.write_text("pad_to = 64\nartifacts = '/elsewhere'\n")
        owners(path, EVE)
        assert load_config(path, environ={}).artifacts == "/elsewhere"
        assert load_config(directory=tmp_path, environ={"POLYFACE_CONFIG": str(path)}).pad_to == 64

    def test_a_named_project_without_our_section_is_refused(self, tmp_path):
        path = tmp_path / "pyproject.toml"
        path.write_text("[tool.other]\n")
        with pytest.raises(ConfigError, match=r"pyproject.toml has no section \[tool.polyface\]"):
            load_config(path, environ={})

    def test_the_search_ends_at_the_folder_of_another_user(self, tmp_path, owners, load):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        theirs = tmp_path / "theirs"
        inner = theirs / "mine"
        inner.mkdir(parents=True)
        (theirs / "polyface.toml").write_text("pad_to = 16\n")
        owners(theirs, EVE)
        assert load(inner) == Config()
        assert [text.partition(";")[0] for _, text in load.said] == [
            f"{theirs / 'polyface.toml'} is left out: its folder belongs to the user with the id 54321"
        ]

    def test_a_strangers_project_that_does_not_speak_of_polyface_is_no_news(self, tmp_path, owners, load):
        (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
        owners(tmp_path, EVE)
        assert load() == Config()
        assert load.said == []

    @pytest.mark.parametrize("part", ["", "polyface.toml"])
    def test_what_everyone_may_write_to_is_left_out(self, tmp_path, load, part):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        path = tmp_path / part
        path.chmod(path.stat().st_mode | stat.S_IWOTH)
        assert load() == Config()
        assert "can be written to by everyone" in load.said[0][1]

    def test_files_of_root_count_for_all(self, tmp_path, owners, load):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        owners(tmp_path / "polyface.toml", 0)
        owners(tmp_path, 0)
        assert load().pad_to == 64

    def test_under_sudo_the_callers_files_count_for_root(self, tmp_path, load, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        assert load() == Config()
        assert load(environ={"SUDO_UID": str(ME)}).pad_to == 64
        assert load(environ={"SUDO_UID": "root"}) == Config()

    def test_sudo_means_nothing_to_a_user_who_is_not_root(self, tmp_path, owners, load):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        owners(tmp_path / "polyface.toml", EVE)
        assert load(environ={"SUDO_UID": str(EVE)}) == Config()

    def test_a_link_of_another_user_to_a_file_of_ones_own_is_left_out(self, tmp_path, owners, load):
        real = tmp_path / "real.toml"
        real.write_text("pad_to = 64\n")
        (tmp_path / "polyface.toml").symlink_to(real)
        assert load().pad_to == 64
        owners(tmp_path / "polyface.toml", EVE)
        assert load() == Config()

    def test_a_user_with_a_name_is_called_by_it(self, tmp_path, owners, load):
        user = pwd.getpwall()[-1]
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        if user.pw_uid in (0, ME):
            pytest.skip("nobody else has a name here")
        owners(tmp_path / "polyface.toml", user.pw_uid)
        load()
        assert f"it belongs to the user {pwd.getpwuid(user.pw_uid).pw_name};" in load.said[0][1]


class TestWhereTheyMayLead:
    @pytest.mark.parametrize(
        "line", ["artifacts = '/graphs'", "artifacts = '../out'", "weights = '~/mine.pth'", "artifacts = 'link/out'"]
    )
    @pytest.mark.parametrize("name", ["polyface.toml", "pyproject.toml"])
    def test_paths_that_leave_the_files_folder_are_refused_with_the_remedy(self, tmp_path, line, name):
        project = tmp_path / "project"
        project.mkdir()
        (project / "link").symlink_to(tmp_path)
        path = project / name
        path.write_text(("" if name == "polyface.toml" else "[tool.polyface]\n") + line)
        with pytest.raises(ConfigError) as caught:
            load_config(directory=project, environ={})
        setting = line.partition(" ")[0]
        assert caught.value.what.startswith(f"{setting} must lie below the folder of the file that sets it, not '")
        assert caught.value.fix.settings == {"config": str(path)}

    @pytest.mark.parametrize(
        ("name", "text", "value"), [("formats", "['EPS']", ("EPS",)), ("max_pixels", "999_999_999", 999_999_999)]
    )
    def test_a_file_that_was_found_cannot_lift_what_guards_against_images(self, tmp_path, name, text, value):
        path = tmp_path / "polyface.toml"
        path.write_text(f"{name} = {text}\n")
        with pytest.raises(ConfigError, match=rf"^{name} cannot be set by a file that was found"):
            load_config(directory=tmp_path, environ={})
        assert getattr(load_config(path, environ={}), name) == value

    def test_one_that_lifts_the_bound_on_memory_is_told(self, tmp_path, load):
        path = tmp_path / "polyface.toml"
        path.write_text("view = 'plain'\nclip = true\n")
        assert load().view == "plain"
        assert load.said == [("INFO", f"settings from {path}: view, clip")]

    def test_a_link_in_a_circle_is_refused(self, tmp_path):
        (tmp_path / "a").symlink_to(tmp_path / "a")
        (tmp_path / "polyface.toml").write_text("artifacts = 'a/out'\n")
        with pytest.raises(ConfigError, match="artifacts must lie below"):
            load_config(directory=tmp_path, environ={})

    def test_paths_below_the_folder_are_taken_and_told(self, tmp_path, load):
        path = tmp_path / "polyface.toml"
        path.write_text("artifacts = 'graphs'\nweights = 'nets/a.pth'\npad_to = 8\n")
        config = load()
        assert config.artifacts == str(tmp_path / "graphs")
        assert load.said == [("INFO", f"settings from {path}: artifacts, weights, pad_to")]

    def test_what_a_stronger_source_sets_is_not_told_as_its(self, tmp_path, load):
        path = tmp_path / "polyface.toml"
        path.write_text("artifacts = 'graphs'\nweights = 'nets/a.pth'\npad_to = 8\n")
        load(environ={"POLYFACE_PAD_TO": "16"}, weights="mine.pth")
        assert load.said == [("INFO", f"settings from {path}: artifacts")]
        load(environ={"POLYFACE_ARTIFACTS": "elsewhere"}, weights="mine.pth")
        assert load.said == []

    def test_a_name_of_weights_is_no_path(self, tmp_path, load):
        (tmp_path / "polyface.toml").write_text("weights = 'wider'\n")
        assert load().weights == "wider"
        assert load.said == []

    def test_a_file_above_is_told_with_what_it_sets(self, tmp_path, load):
        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        (tmp_path / "pyproject.toml").write_text("[tool.polyface]\nclip = true\ndevice = 'cpu'\n")
        assert load(inner).clip is True
        assert load.said == [("INFO", f"settings from {tmp_path / 'pyproject.toml'} [tool.polyface]: clip, device")]


DAMAGED = {
    "brackets": (b"x = " + b"[" * 20_000, "brackets are nested too deep"),
    "number": (b"threads = 1" + b"0" * 5000, "digits"),
    "large": (b"#" * (LARGEST_FILE + 1), f"more than {LARGEST_FILE} bytes"),
    "dots": (b"a" + b".a" * (DEEPEST_KEY + 1) + b" = 1", f"more than {DEEPEST_KEY} dots"),
    "header": (b"[a" + b".a" * (DEEPEST_KEY + 1) + b"]", f"more than {DEEPEST_KEY} dots"),
    "inner key": (b"x = {a" + b".a" * (DEEPEST_KEY + 1) + b" = 1}", f"more than {DEEPEST_KEY} dots"),
    "nul": (b"detector = 'a\0b'", ""),
    "latin": (b"detector = '\xe9'", "utf-8"),
}


class TestDamagedFiles:
    @pytest.mark.parametrize("kind", DAMAGED)
    def test_the_users_own_is_an_error_that_names_it(self, tmp_path, kind):
        content, why = DAMAGED[kind]
        path = tmp_path / "polyface.toml"
        path.write_bytes(content)
        for found in ({"directory": tmp_path}, {"path": path}):
            with pytest.raises(ConfigError) as caught:
                load_config(environ={}, **found)
            assert caught.value.what.startswith(str(path))
            assert why in str(caught.value)
            assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize("kind", DAMAGED)
    def test_a_project_without_our_section_is_passed_over_however_broken(self, tmp_path, load, kind):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\n")
        inner = tmp_path / "inner"
        inner.mkdir()
        path = inner / "pyproject.toml"
        path.write_bytes(DAMAGED[kind][0])
        assert load(inner).pad_to == 64
        path.write_bytes(b"dependencies = ['polyface']\n" + DAMAGED[kind][0])
        assert load(inner).pad_to == 64
        assert load.said[0][1].startswith(f"{path} is left out: it is broken: ")

    def test_a_broken_project_with_our_section_is_an_error(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text("[tool.polyface]\npad_to = 64\n[")
        with pytest.raises(ConfigError, match=r"pyproject.toml is not valid TOML"):
            load_config(directory=tmp_path, environ={})

    @pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["folder", "pipe"])
    def test_what_is_no_file_is_left_out(self, tmp_path, load, make):
        make(tmp_path / "polyface.toml")
        assert load() == Config()
        assert "it is no regular file" in load.said[0][1]

    def test_a_link_to_nothing_is_no_file(self, tmp_path, load):
        (tmp_path / "polyface.toml").symlink_to(tmp_path / "gone")
        assert load() == Config()

    def test_what_may_not_be_read_is_an_error_where_it_is_ones_own_polyface_toml(self, tmp_path, owners, load):
        path = tmp_path / "polyface.toml"
        path.symlink_to(path)  # cannot be opened, by root neither
        with pytest.raises(ConfigError, match=r"polyface.toml cannot be read"):
            load()
        owners(path, 0)
        owners(tmp_path, 0)
        assert load() == Config()
        assert "it cannot be read" in load.said[0][1]
        (tmp_path / "pyproject.toml").symlink_to(tmp_path / "pyproject.toml")
        path.unlink()
        assert load() == Config()

    def test_a_current_folder_that_may_not_be_looked_at_is_no_reason_to_stop(self, tmp_path, load, monkeypatch):
        real = os.stat

        def refuse(path, **options):
            if os.fspath(path) == str(tmp_path):
                raise PermissionError(13, "Permission denied")
            return real(path, **options)

        monkeypatch.setattr(os, "stat", refuse)
        assert load() == Config()
        assert load.said == [("WARNING", f"no settings are looked for from {tmp_path} upwards: Permission denied")]
