"""Described by learning: Flax modules, and their parameters as named arrays.

Nothing here mixes far pixels: no norm, mean or attention over the whole window, so that a
tile's size cannot change what a network predicts.
"""
