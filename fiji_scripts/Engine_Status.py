"""Says what the engine does; starts or ends it. Macro key: action = show, start or stop."""

from cellseg_jy import problems, status

problems.guarded(status.command, globals())
