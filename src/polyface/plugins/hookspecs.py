"""The hooks of a polyface plugin; the author's guide, ``plugins/README.md``, has a complete example of each.

A plugin is a light module (it imports ``polyface`` and nothing heavy) with functions of the names in ``KINDS``, each
marked ``@polyface.hookimpl``, and named by an entry point in the group ``polyface``:

.. code-block:: toml

    [project.entry-points.polyface]
    acme = "acme_faces.plugin"
"""

from __future__ import annotations

import pluggy

from polyface.plugins.kinds import KINDS

GROUP = "polyface"
"""The entry-point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

SPECS = type("SPECS", (), {hook: hookspec(lambda: ()) for hook in KINDS})
"""Every hook: it takes nothing, and yields the records of its kind."""
