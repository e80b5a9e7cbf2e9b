"""Principal components: equal to an SVD of the whole image, without seams."""

import dask
import numpy as np
import pytest
import xarray as xr

from geofuse.errors import BandMismatchError, ParameterError
from geofuse.features import components as module
from geofuse.features.components import PrincipalComponents


def image(size=(40, 50), *, level=0.3, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(4, 4))
    values = np.einsum("ij,jyx->iyx", mixing, rng.normal(size=(4, *size))) * 0.05
    values = (values + level).astype(np.float32)
    values[1, 3:6, 7:12] = np.nan
    coords = {
        "band": ["blue", "green", "red", "nir"],
        "y": np.arange(size[0]) * -10.0,
        "x": np.arange(size[1]) * 10.0,
    }
    return xr.DataArray(values, coords, ("band", "y", "x"))


def oracle(scene, *, standardized=False):
    pixels = scene.values.reshape(len(scene), -1).astype(np.float64)
    pixels = (
        pixels
        - np.nanmean(np.where(np.isfinite(pixels).all(axis=0), pixels, np.nan), axis=1)[
            :, None
        ]
    )
    valid = np.isfinite(pixels).all(axis=0)
    if standardized:
        pixels = pixels / pixels[:, valid].std(axis=1)[:, None]
    vectors, sizes, _ = np.linalg.svd(pixels[:, valid], full_matrices=False)
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, range(len(vectors))])
    return (vectors.T @ pixels).reshape(scene.shape), sizes**2 / valid.sum()


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("level", [0.3, 290.0])
def test_components_are_those_of_an_svd(standardized, level):
    scene = image(level=level)
    extractor = PrincipalComponents(4, standardized=standardized)
    found = extractor.extract(scene)
    assert dask.is_dask_collection(found)
    assert found.dtype == np.float32
    assert list(found.feature.values) == ["pc1", "pc2", "pc3", "pc4"]
    expected, variances = oracle(scene, standardized=standardized)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)
    summary = extractor.summarize(scene).compute()
    np.testing.assert_allclose(summary.variances, variances, rtol=1e-9)
    np.testing.assert_allclose(summary.explained.sum(), 1)


def test_nan_exactly_where_a_band_is_invalid():
    scene = image()
    found = PrincipalComponents(2).extract(scene).values
    invalid = np.isnan(scene.values).any(axis=0)
    np.testing.assert_array_equal(np.isnan(found), [invalid, invalid])


def test_tile_size_never_changes_the_result(monkeypatch):
    scene = image((70, 61))
    whole = PrincipalComponents(3).extract(scene).values
    for tile, chunk in ((16, 9), (33, 70), (64, 20)):
        monkeypatch.setattr(module, "FEATURE_TILE", tile)
        chunked = scene.chunk({"y": chunk, "x": chunk, "band": 2})
        np.testing.assert_array_equal(
            PrincipalComponents(3).extract(chunked).values, whole
        )


def test_a_scan_of_many_tiles_sees_the_whole_scene(monkeypatch):
    scene = image((70, 61))
    one = PrincipalComponents(3).summarize(scene).compute()
    monkeypatch.setattr(module, "_ROWS", 7)
    reduce = module.reduce_tiles
    monkeypatch.setattr(
        module, "reduce_tiles", lambda *args, **kw: reduce(*args, tile=16, **kw)
    )
    many = PrincipalComponents(3).summarize(scene).compute()
    np.testing.assert_allclose(many.vectors, one.vectors, rtol=1e-9)
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-12)


def test_bands_are_chosen_by_name():
    scene = image()
    found = PrincipalComponents(2, ("nir", "red")).extract(scene).values
    expected, _ = oracle(scene.sel(band=["nir", "red"]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(found).all()  # green has the hole


def test_scenes_with_nothing_to_tell():
    scene = image()
    nothing = PrincipalComponents(2).extract(scene * np.float32(np.nan)).values
    assert np.isnan(nothing).all()
    flat = PrincipalComponents(2, standardized=True).extract(scene * 0 + 1).values
    assert (flat[np.isfinite(flat)] == 0).all()
    whole = (scene * 1000).fillna(0).astype(np.uint16)
    assert np.isfinite(PrincipalComponents(2).extract(whole).values).all()


def test_mistakes_are_refused():
    with pytest.raises(ParameterError, match="found 0"):
        PrincipalComponents(0)
    with pytest.raises(ParameterError, match="fewer"):
        PrincipalComponents(3, ("red", "nir"))
    with pytest.raises(ParameterError, match="found 5 of 4 bands"):
        PrincipalComponents(5).extract(image())
    with pytest.raises(BandMismatchError, match="each band once"):
        PrincipalComponents(1, ("red", "red")).extract(image())
    with pytest.raises(BandMismatchError, match="'swir1', which PrincipalComponents"):
        PrincipalComponents(1, ("swir1",)).extract(image())
