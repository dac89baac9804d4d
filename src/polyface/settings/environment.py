"""``POLYFACE_*`` in the environment: how a flag reads, and what others put there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from polyface.errors import ConfigError, quoted

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

_FOREIGN = (
    # Kubernetes' variables of a Service, and Docker's of a link: https://kubernetes.io/docs/concepts/services-networking
    re.compile(r"(\w+_)?SERVICE_HOST=.*"),
    re.compile(r"(\w+_)?SERVICE_PORT(_\w+)?=\d*"),
    re.compile(r"(\w+_)?PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"),
    re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*"),
    re.compile(r"(\w+_)?NAME=/[^/]+/[^/]+"),
    re.compile(r"(\w+_)?ENV_\w+=.*", re.DOTALL),
)


def read_flag(variable: str, environ: Mapping[str, str] | None = None) -> bool:
    """Return whether a variable says yes; unset or empty it says no.

    Raises:
        ConfigError: it says neither yes nor no.
    """
    text = (os.environ if environ is None else environ).get(variable, "").strip()
    if text and text.lower() not in (*TRUE, *FALSE):
        raise ConfigError(
            f"{variable} must be true or false, not {quoted(text)} (environment).", fix=f"{variable}=1, or unset it"
        )
    return text.lower() in TRUE


def is_foreign(name: str, value: str) -> bool:
    """Return whether Kubernetes or Docker set a variable, for a service or container that is called polyface.

    Args:
        name: without ``POLYFACE_``.
        value: what it is set to.
    """
    return any(pattern.fullmatch(f"{name}={value}") for pattern in _FOREIGN)
