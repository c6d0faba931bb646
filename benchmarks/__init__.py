"""Measurements of Pointsman: `make bench`."""
