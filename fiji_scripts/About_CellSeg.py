"""Versions, citation, licence, and where the documentation is."""

from cellseg_jy import about, problems

problems.guarded(about.command, globals())
