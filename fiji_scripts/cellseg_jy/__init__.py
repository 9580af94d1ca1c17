"""What the CellSeg commands of Fiji and ImageJ share.

Jython 2.7 and Java classes only, plain ASCII. The menu scripts are one call each; the engine runs
in a Python of its own and is asked over HTTP (docs/wire.md).
"""

WIRE = 1
"""The protocol that is spoken; an engine of another one says which side to update."""
