"""Installs, updates or removes the engine. Macro keys: action, package, python."""

from cellseg_jy import install_command, problems

problems.guarded(install_command.command, globals())
