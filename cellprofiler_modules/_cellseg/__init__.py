"""What the module IdentifyCells is made of; CellProfiler does not look for modules in here.

Runs under CellProfiler's own Python (3.8 or newer) with what CellProfiler ships and nothing else.
"""
