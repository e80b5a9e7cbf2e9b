"""Connected filters as plain loops over pixels, from their definitions; NaN is a wall.

`image` and `marker` are (y, x) float64.
"""

import math

import numpy as np

STEPS = {
    4: ((0, 1), (1, 0), (0, -1), (-1, 0)),
    8: tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j),
}


def neighbors(image, place, connectivity):
    """Valid pixels that touch `place`."""
    height, width = image.shape
    for dy, dx in STEPS[connectivity]:
        y, x = place[0] + dy, place[1] + dx
        if 0 <= y < height and 0 <= x < width and not math.isnan(image[y, x]):
            yield y, x


def erosion(image, radius):
    """Least valid value in dx^2 + dy^2 <= radius^2; NaN where the pixel is invalid."""
    result = np.full(image.shape, np.nan)
    height, width = image.shape
    reach = range(-radius, radius + 1)
    disk = [(i, j) for i in reach for j in reach if i * i + j * j <= radius * radius]
    for y, x in np.argwhere(~np.isnan(image)):
        inside = [
            image[y + i, x + j]
            for i, j in disk
            if 0 <= y + i < height and 0 <= x + j < width
        ]
        result[y, x] = min(value for value in inside if not math.isnan(value))
    return result


def reconstruction(marker, image, connectivity):
    """Vincent (1993), definition 3.4: dilate, cut to the image, and again."""
    places = [tuple(place) for place in np.argwhere(~np.isnan(image))]
    before = np.where(np.isnan(image), np.nan, marker)
    while True:
        after = before.copy()
        for place in places:
            around = [before[n] for n in neighbors(image, place, connectivity)]
            after[place] = min(max([before[place], *around]), image[place])
        if np.array_equal(after, before, equal_nan=True):
            return after
        before = after


def opening_by_reconstruction(image, radius, connectivity):
    return reconstruction(erosion(image, radius), image, connectivity)


def region_at(image, place, level, connectivity):
    """Pixels at least as high as `level` that hang together with `place`."""
    region, waiting = {place}, [place]
    while waiting:
        for n in neighbors(image, waiting.pop(), connectivity):
            if n not in region and image[n] >= level:
                region.add(n)
                waiting.append(n)
    return region


def measure(image, region, attribute):
    """Dalla Mura et al. (2010), section II-B."""
    places = np.array(sorted(region))
    height, width = np.ptp(places, axis=0) + 1
    if attribute == "area":
        return len(places)
    if attribute == "diameter":
        return max(height, width)
    if attribute == "diagonal":
        return math.hypot(height, width)
    if attribute == "std":
        return np.std([image[tuple(place)] for place in places])
    return ((places - places.mean(axis=0)) ** 2).sum() / len(places) ** 2


def attribute_opening(image, attribute, threshold, connectivity):
    """Level of the smallest region around each pixel that has enough of it."""
    result = np.full(image.shape, np.nan)
    for at in np.argwhere(~np.isnan(image)):
        place = tuple(at)
        level = image[place]
        while True:
            region = region_at(image, place, level, connectivity)
            lower = [
                image[n]
                for pixel in region
                for n in neighbors(image, pixel, connectivity)
                if n not in region
            ]
            if not lower or measure(image, region, attribute) >= threshold:
                break
            level = max(lower)
        result[place] = level
    return result
