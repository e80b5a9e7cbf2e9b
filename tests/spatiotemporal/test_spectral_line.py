import dataclasses

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.spectral_line import SpectralLine
from geofuse.synthetic import simulate_case


def case_of(**options):
    return simulate_case(48, bands=("red", "nir", "swir1"), scale=8, **options)


def by_hand(inputs, ridge):
    """Ridge regression of the coarse change on standardized bands, by NumPy."""
    fine, base = (getattr(inputs.pairs[0], k).values for k in ("fine", "coarse"))
    change = inputs.coarse.values - base
    flat = [image.reshape(len(image), -1).astype(float) for image in (base, change)]
    valid = np.isfinite(np.concatenate(flat)).all(axis=0)
    x, y = (values[:, valid] for values in flat)
    mean, std = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
    z = (x - mean) / std
    count = z.shape[1]
    gram = z @ z.T / count + ridge * np.eye(len(z))
    slope = np.linalg.solve(gram, z @ (y - y.mean(axis=1, keepdims=True)).T / count)
    unit = (fine - mean[..., None]) / std[..., None]
    return fine + np.tensordot(slope.T, unit, 1) + y.mean(axis=1)[:, None, None]


def test_it_is_ridge_regression_on_the_bands_of_the_base_date():
    inputs = case_of(coarse_clouds=0.1, seed=2).inputs
    found = SpectralLine(ridge=0.1).predict(inputs).reflectance.values
    expected = by_hand(inputs, 0.1)
    valid = np.isfinite(found)
    assert valid.mean() > 0.5
    np.testing.assert_allclose(found[valid], expected[valid], atol=2e-5)


def test_a_change_that_follows_from_another_band_is_found():
    """Where the red band of the base date tells the change of the nir band, exactly."""
    case = case_of(seed=1)
    pair = case.inputs.pairs[0]
    change = 0.5 * pair.coarse.sel(band="red", drop=True)
    coarse = pair.coarse.copy()
    coarse.loc["nir"] = coarse.sel(band="nir").values + change.values
    coarse = coarse.assign_coords(time=case.inputs.coarse["time"])
    inputs = FusionInputs([pair], coarse, case.inputs.scale)
    found = SpectralLine(ridge=1e-3).predict(inputs).reflectance
    truth = pair.fine.sel(band="nir") + 0.5 * pair.fine.sel(band="red").values
    off = found.sel(band="nir").values - truth.values
    spread = float((0.5 * pair.fine.sel(band="red")).std())
    assert np.sqrt((off**2).mean()) < 0.2 * spread


def test_a_constant_band_changes_by_its_mean_and_tells_nothing():
    case = case_of(seed=3)

    def flat(image):
        return image.where(image.band != "red", 0.1)

    pairs = [Pair(flat(p.fine), flat(p.coarse)) for p in case.inputs.pairs]
    coarse = flat(case.inputs.coarse)
    inputs = FusionInputs(pairs, coarse + 0.01, case.inputs.scale)
    found = SpectralLine().predict(inputs).reflectance.sel(band="red")
    np.testing.assert_allclose(found.values, 0.11, atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, -1.0, 11.0])
def test_a_ridge_out_of_range_is_refused(ridge):
    with pytest.raises(ParameterError, match="ridge"):
        dataclasses.replace(SpectralLine(), ridge=ridge)
