"""The Ross-thick and Li-sparse kernels, angle by angle, from Lucht et al. (2000)."""

import math


def kernels(sun, view, azimuth):
    """K_vol and K_geo of angles in degrees: equations 37 to 44, h/b = 2, b/r = 1."""
    s, v, phi = map(math.radians, (sun, view, azimuth))
    cos_xi = math.cos(s) * math.cos(v) + math.sin(s) * math.sin(v) * math.cos(phi)
    xi = math.acos(max(-1.0, min(1.0, cos_xi)))
    volume = (math.pi / 2 - xi) * cos_xi + math.sin(xi)
    volume = volume / (math.cos(s) + math.cos(v)) - math.pi / 4
    sec_sum = 1 / math.cos(s) + 1 / math.cos(v)
    d_squared = (
        math.tan(s) ** 2
        + math.tan(v) ** 2
        - 2 * math.tan(s) * math.tan(v) * math.cos(phi)
    )
    cross = math.tan(s) * math.tan(v) * math.sin(phi)
    cos_t = 2 * math.sqrt(max(d_squared, 0.0) + cross**2) / sec_sum
    t = math.acos(max(-1.0, min(1.0, cos_t)))
    overlap = (t - math.sin(t) * math.cos(t)) * sec_sum / math.pi
    geometry = overlap - sec_sum + 0.5 * (1 + cos_xi) / (math.cos(s) * math.cos(v))
    return volume, geometry


def c_factor(parameters, sun, view, azimuth, nadir_sun):
    """Roy et al. (2016): nadir over observed, of the modeled reflectance."""
    modeled = []
    for angles in ((nadir_sun, 0.0, 0.0), (sun, view, azimuth)):
        volume, geometry = kernels(*angles)
        modeled.append(
            parameters[0] + parameters[1] * volume + parameters[2] * geometry
        )
    return modeled[0] / modeled[1]
