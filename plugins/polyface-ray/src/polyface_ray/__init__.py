"""polyface on Ray Data: :func:`detect` finds the faces of a dataset, one detector an actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyface_ray.dataset import detect as detect

__all__ = ["detect"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that ``polyface --help`` does not wait for Ray."""
    if name != "detect":
        raise AttributeError(f"module 'polyface_ray' has no attribute {name!r}")
    from polyface_ray.dataset import detect

    return detect
