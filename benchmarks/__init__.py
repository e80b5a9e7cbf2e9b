"""Benchmarks of geofuse: `python -m benchmarks.NAME [--quick]`.

Each prints a readable table and, as the last line, one JSON object.
"""
