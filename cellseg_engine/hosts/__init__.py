"""Installing into Fiji and CellProfiler: what is copied into them, and where it comes from."""
