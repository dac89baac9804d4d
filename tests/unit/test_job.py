"""The settings of a job: read from the same places as those of a detector, which has no part in them."""

from __future__ import annotations

import logging
import pickle

import pytest

import polyface
from polyface.errors import ConfigError
from polyface.settings.config import Config, Job
from polyface.settings.loading import load, load_config


@pytest.fixture
def load_both(tmp_path):
    def run(text="", environ=None, **overrides):
        (tmp_path / "polyface.toml").write_text(text)
        return load(Config, Job, environ=environ or {}, directory=tmp_path, overrides=overrides)

    return run


def test_a_job_writes_nothing_unless_told_and_follows_links():
    assert (Job().output, Job().json, Job().resume, Job().follow_links) == ((), False, False, True)
    assert Job().max_errors is None


@pytest.mark.parametrize(
    ("given", "output"), [("faces", ("faces",)), (["a,b", "c"], ("a,b", "c")), (("a", "b"), ("a", "b")), ([], ())]
)
def test_an_output_is_a_text_or_several(given, output):
    assert Job(output=given).output == output


@pytest.mark.parametrize("given", ["", 3, ["a", ""], [["a"]], None])
def test_an_output_is_nothing_else(given):
    with pytest.raises(ConfigError, match=r"^output must be text that is not empty, or a list of such texts, not "):
        Job(output=given)


def test_a_file_has_the_settings_of_the_detector_and_of_the_job_side_by_side(load_both, tmp_path):
    config, job = load_both(
        "pad_to = 8\noutput = ['one', '/two']\njson = true\n".replace("/two", str(tmp_path / "two"))
    )
    assert (config.pad_to, job.output, job.json) == (8, (str(tmp_path / "one"), str(tmp_path / "two")), True)
    path = str(tmp_path / "polyface.toml")
    assert (config.sources, job.sources) == ({"pad_to": path}, {"output": path, "json": path})


@pytest.mark.parametrize("given", ["jsonl:lines", "faces.csv/", "jsonl:a/b:c"])
def test_an_output_of_a_file_keeps_its_writer_and_its_slash(load_both, tmp_path, given):
    writer, colon, path = given.rpartition("jsonl:")
    _, job = load_both(f"output = '{given}'\n")
    assert job.output == (f"{writer}{colon}{tmp_path}/{path}",)


def test_a_variable_is_one_output_whatever_is_in_it(load_both):
    config, job = load_both(environ={"POLYFACE_OUTPUT": "a,b:c", "POLYFACE_JSON": "yes"})
    assert (config, job.output, job.json) == (Config(), ("a,b:c",), True)
    assert job.sources["output"] == "environment POLYFACE_OUTPUT"


def test_a_keyword_is_stronger_than_a_file_and_goes_to_the_record_it_belongs_to(load_both):
    config, job = load_both("output = 'out'\n", output=["here"], pad_to=8)
    assert (config.pad_to, config.sources, job.output, job.sources) == (
        8,
        {"pad_to": "keyword"},
        ("here",),
        {"output": "keyword"},
    )


def test_a_named_file_is_read_for_both(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("pad_to = 8\noutput = '/out'\n")
    config, job = load(Config, Job, path=path, overrides={"pad_to": 16})
    assert (config.pad_to, job.output) == (16, ("/out",))


@pytest.mark.parametrize("output", ["'../out'", "['in', 'link/out']"])
def test_an_output_of_a_file_that_was_found_lies_below_its_folder(load_both, tmp_path, output):
    (tmp_path / "link").symlink_to(tmp_path.parent)
    with pytest.raises(ConfigError, match=r"^output must lie below the folder of the file that sets it, not "):
        load_both(f"output = {output}\n")


def test_who_loads_a_detector_hears_nothing_of_a_job(tmp_path, caplog):
    (tmp_path / "polyface.toml").write_text("output = '/elsewhere'\njson = 'perhaps'\n")
    with caplog.at_level(logging.INFO, "polyface.settings"):
        config = load_config(directory=tmp_path, environ={"POLYFACE_OUTPUT": "x", "POLYFACE_JSON": "perhaps"})
    assert (config, config.sources, caplog.records) == (Config(), {}, [])


def test_the_output_of_a_job_is_no_setting_of_a_detector():
    message = r"^output belongs to a job, such as polyface detect, not to a detector \(keyword\)\."
    for make in (
        lambda: polyface.create_detector(output="faces"),
        lambda: polyface.create_detector(config=Config(), output="faces"),
        lambda: load_config(environ={}, output=None),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_a_job_survives_pickling():
    job = Job(output=["a", "b"], sources={"output": "option"})
    again = pickle.loads(pickle.dumps(job))  # noqa: S301
    assert (again, again.sources) == (job, {"output": "option"})
