"""Backends: an image in, fields out."""
