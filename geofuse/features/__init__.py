"""Features by hand: what an image says about a pixel, written down as formulas.

    indices      ratios of bands: vegetation, water, burns, snow, buildings, radar
    texture      how gray levels sit beside each other (GLCM)
    morphology   what stays when bright or dark things of a size are taken away
    local        mean, spread, gradient, orientation in a small window
    components   principal components: many bands in few
    stack        all of them as one named image, which is what classifiers eat

Each is a frozen dataclass with one method, `extract(image)`, that gives a lazy image
(feature, y, x); see `geofuse.features.extractor`. All run over tiles, and *tile size
never changes the result*.
"""
