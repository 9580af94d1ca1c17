"""The engine as a local HTTP service: the only room that knows both the engine and the wire.

``python -m cellseg_service`` (or ``cellseg serve``) runs it. Nothing heavy is imported here, so
that a service that finds another one running ends quickly.
"""

from __future__ import annotations
