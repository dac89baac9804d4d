"""Ray, imported in one place, and kept from telling its maker that it is used."""

from __future__ import annotations

import os

from polyface.optional import needs

# Ray reads it when a cluster is started. Whoever wants to tell sets it to 1.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ray = needs("ray", "ray[data]")
data = needs("ray.data", "ray[data]")
