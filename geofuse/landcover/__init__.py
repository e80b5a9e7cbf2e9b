"""Map classes from several modalities: early, in between or late.

early          one decision on all data       EarlyFusion
intermediate   features meet, then decide     IntermediateFusion
late           decide each, then combine      LateFusion
"""
