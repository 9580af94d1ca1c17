"""Tests inside a Java machine, run in a process of their own by test_imagej_python.py."""
