"""Speckle filters for backscatter in linear power, one a file, exact over tiles."""
