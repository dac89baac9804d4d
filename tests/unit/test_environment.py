"""``POLYFACE_*`` that are no settings: flags, slips, and what Kubernetes and Docker set."""

from __future__ import annotations

import logging

import pytest

from polyface.errors import ConfigError
from polyface.settings.config import Config
from polyface.settings.loading import load_config
from polyface.settings.values import read_flag


@pytest.fixture
def said(tmp_path, caplog):
    def load(**environ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert load_config(directory=tmp_path, environ=environ) == Config()
        return [record.getMessage() for record in caplog.records]

    return load


@pytest.mark.parametrize("text", ["1", "true", "Yes", "ON", " on "])
def test_a_flag_says_yes(text):
    assert read_flag("POLYFACE_OFFLINE", {"POLYFACE_OFFLINE": text}) is True


@pytest.mark.parametrize("text", ["", "0", "false", "No", "OFF", " "])
def test_a_flag_says_no(text):
    assert read_flag("POLYFACE_OFFLINE", {"POLYFACE_OFFLINE": text}) is False
    assert read_flag("POLYFACE_OFFLINE", {}) is False


def test_a_flag_that_says_neither_is_refused():
    with pytest.raises(ConfigError, match=r"^POLYFACE_OFFLINE must be true or false, not 'perhaps' \(environment\)"):
        read_flag("POLYFACE_OFFLINE", {"POLYFACE_OFFLINE": "perhaps"})


# As a pod has them beside the Services "polyface" and "polyface-api-v2", and a container that is linked to one.
KUBERNETES = {
    "POLYFACE_SERVICE_HOST": "10.0.0.1",
    "POLYFACE_SERVICE_PORT": "80",
    "POLYFACE_SERVICE_PORT_HTTP": "80",
    "POLYFACE_PORT": "tcp://10.0.0.1:80",
    "POLYFACE_PORT_80_TCP": "tcp://10.0.0.1:80",
    "POLYFACE_PORT_80_TCP_PROTO": "tcp",
    "POLYFACE_PORT_80_TCP_PORT": "80",
    "POLYFACE_PORT_80_TCP_ADDR": "10.0.0.1",
    "POLYFACE_API_V2_SERVICE_HOST": "fd00::1",
    "POLYFACE_API_V2_PORT": "udp://[fd00::1]:53",
    "POLYFACE_API_V2_PORT_53_UDP": "udp://[fd00::1]:53",
    "POLYFACE_API_V2_PORT_53_UDP_ADDR": "fd00::1",
    "POLYFACE_NAME": "/web/polyface",
    "POLYFACE_ENV_LANG": "C.UTF-8",
}


def test_what_kubernetes_and_docker_set_is_passed_over_without_a_word(said):
    assert said(**KUBERNETES) == []


@pytest.mark.parametrize(("name", "value"), [("POLYFACE_PORT", "8080"), ("POLYFACE_NAME", "mine"), ("POLYFACE_X", "1")])
def test_an_unknown_variable_is_a_warning(said, name, value):
    assert said(**{name: value}) == [f"{name} is no setting, and is passed over (environment)"]


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("DETECTR", "DETECTOR"),
        ("BACKENDS", "BACKEND"),
        ("THREAD", "THREADS"),
        ("OFLINE", "OFFLINE"),
        ("Device", "DEVICE"),
        ("PLUGIN", "PLUGINS"),
    ],
)
def test_a_slip_in_a_known_name_is_an_error_that_names_it(tmp_path, slip, meant):
    with pytest.raises(ConfigError) as caught:
        load_config(directory=tmp_path, environ={f"POLYFACE_{slip}": "1"})
    assert caught.value.what.startswith(f"There is no setting POLYFACE_{slip} (environment); did you mean ")
    assert f"'POLYFACE_{meant}'" in caught.value.what


def test_a_name_of_any_length_is_shortened(said):
    [text] = said(**{"POLYFACE_" + "X" * 200_000: "1"})
    assert len(text) < 200


def test_the_prefix_that_all_share_makes_no_two_names_alike(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'POLYFACE_CONFIG'\?\n"):
        load_config(directory=tmp_path, environ={"POLYFACE_CONFIGS": "1"})
