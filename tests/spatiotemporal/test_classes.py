"""Classes of a scene, their coarse values, and the thin-plate spline in windows."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.interpolate import RBFInterpolator

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.classes import (
    classified,
    mapped,
    shares,
    summarize_classes,
)
from geofuse.spatiotemporal.clustering import k_means
from geofuse.spatiotemporal.thin_plate import REACH, thin_plate, thin_plate_weights

SCALE = 4
#: Fine reflectance of three covers at the base date and how their coarse value changes.
COVERS = np.array([[0.05, 0.1], [0.2, 0.3], [0.4, 0.2]])
CHANGE = np.array([[0.1, 0.0], [-0.05, 0.1], [0.02, -0.1]])


def covered(size=64, seed=0):
    """A scene of three covers in fields that do not respect coarse pixels."""
    rng = np.random.default_rng(seed)
    cover = np.kron(rng.integers(0, 3, (13, 13)), np.ones((5, 5), int))
    return cover[:size, :size]


def image(values, day):
    axes = {
        name: np.arange(size) + 0.5
        for name, size in zip("yx", values.shape[1:], strict=True)
    }
    coords = {"band": [f"b{k}" for k in range(len(values))], **axes}
    coords["time"] = np.datetime64(f"2021-07-{day:02}", "ns")
    return xr.DataArray(np.float32(values), dims=("band", "y", "x"), coords=coords)


def aggregated(values):
    bands, rows, columns = values.shape
    blocks = values.reshape(bands, rows // SCALE, SCALE, columns // SCALE, SCALE)
    return blocks.mean(axis=(2, 4)).repeat(SCALE, 1).repeat(SCALE, 2)


def inputs_of(cover, classes=None, *, shift=0.0, cloud=None):
    before = COVERS.T[:, cover] + shift
    after = (COVERS + CHANGE).T[:, cover] + shift
    fine = np.float32(before)
    if cloud is not None:
        fine[:, cloud] = np.nan
    pair = Pair(image(fine, 1), image(aggregated(before), 1))
    if classes is not None:
        axes = {name: pair.fine[name] for name in "yx"}
        classes = xr.DataArray(classes, axes, ("y", "x"))
    return FusionInputs([pair], image(aggregated(after), 9), SCALE, classes=classes)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_classes_and_their_change_are_found(shift):
    cloud = np.zeros((64, 64), bool)
    cloud[10:20] = True
    found = summarize_classes(
        inputs_of(covered(), shift=shift, cloud=cloud), 3
    ).compute()
    order = np.argsort(COVERS[:, 0])
    np.testing.assert_allclose(found.centers[0], (COVERS + shift)[order], rtol=1e-5)
    np.testing.assert_allclose((found.wanted - found.base)[0], CHANGE[order], atol=0.01)
    assert (found.lowest <= found.base[0].min(0) + 1e-3 * (1 + shift)).all()


def test_a_class_map_stands_in_for_the_clusters():
    cover = covered()
    labels = np.where(cover == 2, 1, cover + 2).astype(np.uint8)  # covers 2, 0, 1
    labels[:4] = 0
    found = summarize_classes(inputs_of(cover, labels), 3).compute()
    np.testing.assert_allclose(
        (found.wanted - found.base)[0], CHANGE[[2, 0, 1]], atol=0.01
    )


def test_a_class_without_coarse_pixels_changes_like_the_mean():
    labels = covered() + 1  # labels 1 to 3 of 5
    found = summarize_classes(inputs_of(covered(), labels), 5).compute()
    change = (found.wanted - found.base)[0]
    assert np.isfinite(change).all()
    np.testing.assert_array_equal(change[3], change[4])
    assert (np.abs(change[3]) < 0.1).all()


def test_class_maps_that_do_not_fit_are_refused():
    cover = covered()
    with pytest.raises(ParameterError, match="found 3; set classes=3"):
        summarize_classes(inputs_of(cover, cover + 1), 2).compute()
    with pytest.raises(GridMismatchError, match=r"class map \(y, x\)"):
        FusionInputs(
            inputs_of(cover).pairs,
            inputs_of(cover).coarse,
            SCALE,
            classes=image(cover[None], 1),
        )
    shifted = inputs_of(cover, cover + 1).classes
    shifted = shifted.assign_coords(x=shifted.x + 1)
    with pytest.raises(GridMismatchError, match="class map"):
        FusionInputs(
            inputs_of(cover).pairs, inputs_of(cover).coarse, SCALE, classes=shifted
        )
    with pytest.raises(ParameterError, match="labels 1, 2"):
        inputs_of(cover, cover.astype(str))


def test_an_invalid_scene_has_no_classes():
    found = summarize_classes(
        inputs_of(covered(), cloud=np.ones((64, 64), bool)), 3
    ).compute()
    assert np.isnan(found.centers).all()
    assert np.isnan(found.base).all()


def test_pixels_join_the_nearest_center_by_their_valid_bands():
    fine = np.float32([[[0.1, 0.9, np.nan, np.nan]], [[0.1, np.nan, 0.8, np.nan]]])
    centers = np.float32([[0.1, 0.1], [0.8, 0.9]])
    label = classified(
        jnp.asarray(fine), jnp.asarray(centers), jnp.ones(2, jnp.float32)
    )
    assert label.tolist() == [[0, 1, 1, -1]]
    share = shares(label, 2, 1)
    np.testing.assert_array_equal(share[:, 0], [[1, 0, 0, np.nan], [0, 1, 1, np.nan]])
    given = jnp.asarray([[np.nan, 0.0, 1.0, 3.0]], jnp.float32)
    assert mapped(given, 2).tolist() == [[-1, -1, 0, -1]]


def test_clusters_of_fewer_points_than_centers():
    points = np.array([[1.0], [1.0], [2.0]])
    assert set(k_means(points, 4).ravel()) <= {1.0, 2.0}


def test_the_spline_of_a_window_is_that_of_the_whole_but_for_a_percent():
    coarse = np.random.default_rng(0).normal(size=(15, 15)).astype(np.float32)
    scale = 3
    found = np.asarray(thin_plate(jnp.asarray(coarse), scale))
    points = np.argwhere(np.ones_like(coarse))
    axis = (np.arange(15 * scale) + 0.5) / scale - 0.5
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    spline = RBFInterpolator(points, coarse.ravel(), kernel="thin_plate_spline")
    whole = spline(places).reshape(15 * scale, -1)
    cut = slice(REACH * scale, -REACH * scale)
    inner = slice(2 * scale, -2 * scale)  # the border of the scene bends it
    off = (found - whole[cut, cut])[inner, inner]
    assert off.std() < 0.01 * coarse.std()


def test_the_spline_keeps_planes_and_what_is_missing_counts_as_the_center():
    np.testing.assert_allclose(thin_plate_weights(5).sum(axis=(0, 1)), 1, atol=1e-5)
    y, x = np.mgrid[:9, :9].astype(np.float32)
    plane = np.asarray(thin_plate(jnp.asarray(300 + y - 2 * x), 4))
    expected = (
        300
        + ((np.arange(36) + 0.5) / 4 - 0.5)[:, None]
        - 2 * ((np.arange(36) + 0.5) / 4 - 0.5)
    )
    np.testing.assert_allclose(plane, expected[12:-12, 12:-12], atol=2e-4)
    alone = np.full((7, 7), np.nan, np.float32)
    alone[3, 3] = 5
    np.testing.assert_array_equal(
        thin_plate(jnp.asarray(alone), 4), np.full((4, 4), 5.0)
    )
