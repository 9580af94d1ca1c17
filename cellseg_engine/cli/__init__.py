"""The command line, `cellseg`."""
