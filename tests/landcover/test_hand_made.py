import numpy as np
import pytest
import xarray as xr

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.features.local import Gradient, LocalStatistics
from geofuse.features.modalities import On
from geofuse.features.stack import FeatureStack
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.hand_made import (
    features_of,
    scales_of,
    stack_of,
    stacks_by_modality,
)
from geofuse.landcover.labeled_pixels import labeled_pixels, rows_by_class
from geofuse.landcover.modality import Modality

OPTICAL = Modality("s2", ("red", "nir"))
RADAR = Modality("s1", ("vv", "vh"))
HEIGHT = Modality("dem", ("elevation",))
CUBE = Modality("cube", tuple(f"b{number}" for number in range(30)))


def case(modality, size=48, seed=0, **attributes):
    shape = (len(modality.bands), size, size)
    values = np.random.default_rng(seed).uniform(0.1, 1, shape).astype(np.float32)
    coords = {"y": -1.0 * np.arange(size), "x": 1.0 * np.arange(size)}
    image = xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={"band": list(modality.bands), **coords},
        attrs=attributes,
    )
    labels = xr.DataArray(np.zeros((size, size), np.int16), coords, ("y", "x"))
    return LandCoverCase({modality.name: image}, labels)


def names_of(modality, **attributes):
    one = case(modality, **attributes)
    stack = stack_of(modality)
    scales = scales_of([one], [modality], [stack])
    image = one.images[modality.name]
    found = features_of(image, modality, stack, scales)
    assert np.isfinite(found.values[:, 2:-2, 2:-2]).all()
    return found.feature.values.tolist()


def test_each_modality_has_features_of_its_kind():
    optical = names_of(Modality("s2", ("blue", "green", "red", "nir")))
    assert {"s2_red", "s2_ndvi", "s2_nir_std_w11", "s2_pc1_mean_w5"} <= set(optical)
    assert "s2_nbr" not in optical  # no band for it
    radar = names_of(RADAR, units="1")
    assert {"s1_vv", "s1_ratio_vh_vv", "s1_vh_mean_w41"} <= set(radar)
    height = names_of(HEIGHT)
    assert {"dem_elevation", "dem_elevation_gradient_scharr"} <= set(height)
    cube = names_of(CUBE)
    assert {"cube_pc1", "cube_pc10", "cube_pc2_std_w11"} <= set(cube)
    assert "cube_b7" not in cube


def test_features_asked_for_go_to_their_modalities():
    asked = FeatureStack(
        indices=("ndvi",), local=(Gradient(), On("s1", LocalStatistics(7)))
    )
    radar, optical = stacks_by_modality(asked, (RADAR, OPTICAL))
    assert optical.indices == ("ndvi",)
    assert optical.local == (Gradient(),)
    assert radar.indices == ()
    assert radar.local == (Gradient(), On("s1", LocalStatistics(7)))
    only, rest = stacks_by_modality(FeatureStack(indices=("ndvi",)), (OPTICAL, HEIGHT))
    assert not only.bands
    assert rest.bands
    with pytest.raises(UnknownNameError, match="'s9'"):
        stacks_by_modality(FeatureStack(local=On("s9", Gradient())), (RADAR, OPTICAL))


def test_components_are_those_of_all_cases_together():
    cases = [case(CUBE, seed=1), case(CUBE, seed=2, size=40)]
    stack = stack_of(CUBE)
    scales = scales_of(cases, [CUBE], [stack])
    mean = next(v for name, v in scales.arrays.items() if name.endswith("/mean"))
    pixels = [each.images["cube"].values.reshape(30, -1) for each in cases]
    np.testing.assert_allclose(
        mean, np.concatenate(pixels, axis=1).mean(axis=1), rtol=1e-5
    )


def test_units_that_differ_are_refused():
    cases = [case(RADAR, units="dB"), case(RADAR, units="1")]
    with pytest.raises(ParameterError, match="one unit in all cases"):
        scales_of(cases, [RADAR], [stack_of(RADAR)])
    with pytest.raises(ParameterError, match="'dB', or '1'"):
        names_of(RADAR)


def test_rows_are_shared_out_so_that_rare_classes_survive():
    counts = np.array([100_000, 5_000, 20, 0])
    rows = rows_by_class(counts, 3000)
    assert rows[2] == 20
    assert rows[3] == 0
    assert rows[1] >= 500
    assert rows.sum() == pytest.approx(3000, abs=1)
    np.testing.assert_array_equal(rows_by_class(counts, 10**6), counts)


def test_labeled_pixels_are_gathered_with_their_places_and_weights():
    one = case(OPTICAL)
    labels = one.labels.copy()
    labels[:, :40] = -1
    labels[5, 44] = 1
    some = LandCoverCase(one.images, labels)
    counts = np.array([48 * 8 - 1, 1])
    pixels = labeled_pixels(
        [one.only(np.zeros((48, 48), bool)), some],
        lambda case, tile: {"s2": case.images["s2"].chunk(y=tile, x=tile)},
        counts,
        most=100,
        seed=3,
    )
    assert pixels.labels.tolist().count(1) == 1
    assert 70 < len(pixels.labels) < 130
    assert (pixels.columns >= 40).all()
    assert (pixels.scene == 1).all()
    np.testing.assert_array_equal(
        pixels.features.T, one.images["s2"].values[:, pixels.rows, pixels.columns]
    )
    assert pixels.weights.sum() == pytest.approx(counts.sum(), rel=0.3)
