"""Raster files in, raster files out: images on grids."""
