"""Images to try connected filters on, made here."""

import numpy as np


def natural(height, width, seed=0):
    """Smooth shapes of all sizes and a little noise, (y, x) float64 in [0, 1]."""
    rng = np.random.default_rng(seed)
    size = 2 * max(height, width)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    ground = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / size) ** 1.5)
    ground = ground[:height, :width]
    ground = (ground - ground.min()) / np.ptp(ground)
    ground = ground + 0.01 * rng.standard_normal(ground.shape)
    return (ground - ground.min()) / np.ptp(ground)


def grounds(height, width):
    """Named images of all types: natural, noise, plateaus, walls, a spiral."""
    rng = np.random.default_rng(1)
    smooth = natural(height, width)
    holes = smooth.astype(np.float32)
    holes[rng.random(holes.shape) < 0.25] = np.nan
    return {
        "natural uint8": (smooth * 255).astype(np.uint8),
        "natural uint16": (smooth * 65535).astype(np.uint16),
        "natural float32": (smooth - 0.5).astype(np.float32),
        "noise float32": rng.standard_normal(smooth.shape).astype(np.float32),
        "plateaus uint8": (smooth * 5).astype(np.uint8),
        "holes float32": holes,
        "spiral uint8": spiral(height, width),
    }


def spiral(height, width):
    """A bright path of one pixel that winds through the whole image, uint8."""
    image = np.zeros((height, width), np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    image[0, 0] = 255
    turns = 0
    while turns < 2:
        ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        free = 0 <= ahead[0] < height and 0 <= ahead[1] < width
        taken = 0 <= beyond[0] < height and 0 <= beyond[1] < width and image[beyond] > 0
        if free and not taken and image[ahead] == 0:
            y, x = ahead
            image[y, x] = 200
            turns = 0
        else:
            dy, dx = dx, -dy
            turns += 1
    return image
