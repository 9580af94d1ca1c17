"""Pure functions on arrays: no files, no torch, no environment, no printing."""
