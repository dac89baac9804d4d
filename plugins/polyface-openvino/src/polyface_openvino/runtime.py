"""OpenVINO, imported without the report that its import sends over the network.

``import openvino`` tells Google Analytics about itself, leaves an identity in ``~/intel``, and asks nobody. Where its
package ``openvino_telemetry`` cannot be imported it uses a stub of its own instead; so the package is hidden for as
long as that import lasts.

Then its table of types is made, while the import still keeps other threads away: if two make it at once, by their first
runs, each waits for the other for ever, one for Python's lock, and one, which holds that, for the table.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"

_hidden = sys.modules.get(_TELEMETRY)
sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's own way to make an import fail
try:
    import openvino  # type: ignore[import-untyped]
finally:
    del sys.modules[_TELEMETRY]
    if _hidden is not None:
        sys.modules[_TELEMETRY] = _hidden

openvino.Type.f32.to_dtype()

__all__ = ["openvino"]
