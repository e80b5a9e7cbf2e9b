"""Indices by name: equal to the catalogue, in one pass, over tiles."""

import sys

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geofuse.errors import BandMismatchError, ParameterError, UnknownNameError
from geofuse.features import indices as module
from geofuse.features.formulas import Number, names_in, parse, substitute
from geofuse.features.fused import fuse, run
from geofuse.features.index_table import DEFAULTS, INDICES
from geofuse.features.indices import Indices, find_index, indices

BANDS = (
    *("coastal", "blue", "green", "green05", "yellow", "red"),
    *("rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09"),
    *("swir1", "swir2", "lwir", "lwir11", "lwir12", "vv", "vh", "hh", "hv"),
)
#: Wavelengths and the like have no default in the catalogue.
GIVEN = {
    **{"lambdaG": 560.0, "lambdaR": 665.0, "lambdaN": 833.0, "lambdaN2": 865.0},
    **{"lambdaS1": 1614.0, "lambdaS2": 2202.0, "PAR": 1.5},
}


def image(size=(9, 11), *, bands=BANDS, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).uniform(0.02, 0.6, (len(bands), *size))
    coords = {
        "band": list(bands),
        "y": np.arange(size[0])[::-1] * 10.0,
        "x": np.arange(size[1]) * 10.0,
        "spatial_ref": 0,
        "time": np.datetime64("2024-06-01", "ns"),
    }
    return xr.DataArray(values.astype(dtype), coords, ("band", "y", "x"))


def oracle(name, scene):
    """The index as spyndex computes it, kernels included."""
    spyndex = pytest.importorskip("spyndex")
    params = {
        code: scene.sel(band=band).values
        for code, band in module._CODES.items()
        if band in scene.band
    }
    params |= {n: c.default for n, c in spyndex.constants.items()} | GIVEN
    for first in ("N", "G"):
        for second in ("N", "R", "B", "L", "G"):
            params[f"k{first}{second}"] = spyndex.computeKernel(
                "RBF", {"a": params[first], "b": params[second], "sigma": 0.5}
            )
    return spyndex.computeIndex(name, params)


def names_of_catalogue():
    return sorted(module.catalogue()) or [pytest.param("NDVI", marks=pytest.mark.skip)]


@pytest.mark.parametrize("name", names_of_catalogue())
def test_every_formula_of_the_catalogue_equals_spyndex(name):
    scene = image(dtype=np.float64)
    formula = parse(module.catalogue()[name].formula)
    values = {**module.constants(), **GIVEN}
    constants = {n: Number(values[n]) for n in names_in(formula) if n in values}
    program = fuse(
        [substitute(formula, constants)], {b: i for i, b in enumerate(BANDS)}
    )
    found = run(program, scene.values, dtype=np.float64)[0]
    with np.errstate(invalid="ignore"):
        expected = np.asarray(oracle(name, scene))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    # 1e-11: dozens of float64 operations, some of them differences of equals.
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("index", INDICES.values(), ids=lambda index: index.name)
def test_every_built_in_index_equals_its_row_of_the_catalogue(index):
    scene = image(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        expected = np.asarray(oracle(index.catalogue, scene))
    found = indices(scene, [index.name]).sel(feature=index.name).values
    assert found.dtype == np.float32
    assert np.isfinite(expected).mean() > 0.3
    # 1e-7: computed in float64 like the image, rounded to float32 at the end.
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    assert find_index(index.catalogue) is index


def test_defaults_are_those_of_the_catalogue():
    spyndex = pytest.importorskip("spyndex")
    for name, value in DEFAULTS.items():
        assert spyndex.constants[name].default == value
    assert module.constants()["lambdaN"] is None


def test_the_whole_catalogue_in_one_pass():
    pytest.importorskip("spyndex")
    names = sorted(module.catalogue())
    result = indices(image(), names, **GIVEN).compute()
    assert result.sizes["feature"] == len(names)
    assert not np.isinf(result.values).any()
    one = indices(image(), ["CRSWIR"], **{k: GIVEN[k] for k in GIVEN if "S" in k or
                                          k == "lambdaN2"})  # fmt: skip
    np.testing.assert_array_equal(one[0], result.sel(feature="CRSWIR"))


def test_the_table_has_fifty_and_explains_each():
    assert len(INDICES) >= 50
    assert {i.domain for i in INDICES.values()} == {
        *("vegetation", "water", "burn", "built", "snow", "soil", "radar")
    }
    for index in INDICES.values():
        assert index.title
        assert index.source
        assert all(n in BANDS or n in DEFAULTS for n in names_in(parse(index.formula)))


# --- What comes out -------------------------------------------------------------------


def test_the_result_is_lazy_and_keeps_the_grid():
    scene = image()
    result = indices(scene, ["ndvi", "NDWI", "mine = nir - k * red"], k=2)
    assert dask.is_dask_collection(result)
    assert result.dims == ("feature", "y", "x")
    assert result.dtype == np.float32
    assert list(result.feature.values) == ["ndvi", "ndwi", "mine"]
    assert set(result.coords) == {"feature", "y", "x", "spatial_ref", "time"}
    assert "k" in result.attrs["extractor"]
    np.testing.assert_allclose(
        result[2], scene.sel(band="nir") - 2 * scene.sel(band="red"), rtol=1e-6
    )


@settings(deadline=None, max_examples=30)  # the first one compiles
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.integers(7, 40),
    chunk=st.integers(5, 40),
)
def test_tile_size_never_changes_the_result(height, width, tile, chunk):
    scene = image((height, width), bands=("blue", "red", "nir", "swir1"))
    names = ["ndvi", "evi", "msavi", "ndmi", "mine = (nir ** 0.3 - red) / log(blue)"]
    scene.values[:, height // 2, : width // 2] = np.nan
    whole = indices(scene, names).values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "INDEX_TILE", tile)
        tiled = indices(scene.chunk({"y": chunk, "x": chunk}), names).values
    np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
def test_integers_do_not_wrap(dtype):
    scene = image((1, 3), bands=("red", "nir"), dtype=dtype)
    scene.values[:] = [[[200, 90, 0]], [[10, 30, 0]]]
    found = indices(scene, ["ndvi", "dvi"]).values
    np.testing.assert_allclose(found[0, 0], [-190 / 210, -0.5, np.nan], rtol=1e-6)
    np.testing.assert_array_equal(found[1, 0], [-190, -60, 0])


def test_a_denominator_of_zero_is_nan_and_nothing_is_infinite():
    scene = image((1, 4), bands=("green", "red", "nir"))
    scene.values[:] = [[[0.2] * 4], [[0, 0.1, np.nan, np.inf]], [[0, -0.1, 0.3, 0.3]]]
    found = indices(scene, ["ndvi", "sr", "gndvi"]).values
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(np.isnan(found[1, 0]), [True, False, True, True])
    assert np.isfinite(found[2]).all()


def test_an_image_without_a_valid_pixel_gives_nan():
    scene = image(bands=("red", "nir")) * np.float32(np.nan)
    assert np.isnan(indices(scene, ["ndvi"]).values).all()


def test_constants_are_parameters():
    scene = image(bands=("red", "nir"))
    red, nir = scene.values
    for soil in (1.0, 0.5):
        given_ = {} if soil == 1 else {"L": soil}
        expected = (1 + soil) * (nir - red) / (nir + red + soil)
        np.testing.assert_allclose(
            indices(scene, "savi", **given_)[0], expected, rtol=1e-5, atol=1e-7
        )


def test_a_band_is_found_under_its_other_names():
    scene = image(bands=("Red", "nir08", "swir16", "VV", "VH"))
    found = indices(scene, ["ndvi", "ndmi", "rvi"])
    assert np.isfinite(found.values).all()
    both = image(bands=("red", "nir", "nir08"))
    expected = indices(both.sel(band=["red", "nir"]), "ndvi")
    np.testing.assert_array_equal(indices(both, "ndvi"), expected)


def test_only_the_bands_that_are_needed_are_read():
    def fail(block):
        raise AssertionError("read")

    scene = image(bands=("red", "nir", "blue")).chunk({"band": 1})
    scene = xr.concat(
        [scene[:2], scene[2:].copy(data=scene[2:].data.map_blocks(fail, dtype="f4"))],
        "band",
    )
    assert np.isfinite(indices(scene, "ndvi").values).all()


def test_an_extractor_is_a_value():
    one = Indices(["ndvi", "savi"], {"L": 0.5})
    assert one == Indices(("ndvi", "savi"), (("L", 0.5),))
    assert hash(one) == hash(Indices(("ndvi", "savi"), (("L", 0.5),)))
    assert repr(one) == "Indices(names=('ndvi', 'savi'), constants=(('L', 0.5),))"


# --- Which index is meant -------------------------------------------------------------


def test_names_of_the_catalogue():
    pytest.importorskip("spyndex")
    assert find_index("NDVI").name == find_index("ndvi").name == "ndvi"
    assert find_index("RVI").formula == "rededge2/red"
    assert find_index("rvi").domain == "radar"
    assert find_index("cvi").name == "CVI"
    assert find_index("BaI").domain == "soil"
    assert find_index("bai").domain == find_index("BAI").domain == "burn"
    with pytest.raises(UnknownNameError):
        find_index("msR705")  # MSR705 or mSR705?


def test_without_spyndex_the_built_in_ones_remain(monkeypatch):
    monkeypatch.setitem(sys.modules, "spyndex", None)
    module.catalogue.cache_clear()
    module.constants.cache_clear()
    try:
        assert find_index("NDVI").name == "ndvi"
        with pytest.raises(UnknownNameError, match="pip install spyndex"):
            find_index("CVI")
        assert np.isfinite(indices(image(), ["evi", "kndvi"]).values).all()
    finally:
        module.catalogue.cache_clear()
        module.constants.cache_clear()


# --- Mistakes -------------------------------------------------------------------------


def test_mistakes_are_refused():
    scene = image(bands=("red", "nir"))
    with pytest.raises(UnknownNameError, match="did you mean 'ndvi'"):
        indices(scene, ["ndvj"])
    with pytest.raises(BandMismatchError, match=r"swir1 \(for ndmi, mine\).*blue"):
        indices(scene, ["ndmi", "mine = nir / swir1", "evi"])
    with pytest.raises(BandMismatchError, match="did you mean 'nir'"):
        indices(scene, ["mine = nri / red"])
    with pytest.raises(UnknownNameError, match=r"found 'M'.*did you mean|known: L"):
        indices(scene, ["savi"], M=0.5)
    with pytest.raises(UnknownNameError, match="found 'L'"):
        indices(scene, ["ndvi"], L=0.5)
    with pytest.raises(ParameterError, match="finite number for the constant 'L'"):
        indices(scene, ["savi"], L="much")
    with pytest.raises(ParameterError, match="at least one index"):
        indices(scene, [])
    with pytest.raises(ParameterError, match="as text"):
        indices(scene, [1])
    with pytest.raises(ParameterError, match="different names"):
        indices(scene, ["ndvi", "NDVI"])
    with pytest.raises(ParameterError, match="'name = formula'"):
        indices(scene, ["2x = nir"])
    with pytest.raises(ParameterError, match="in a formula"):
        indices(scene, ["mine = __import__('os')"])
    with pytest.raises(ParameterError, match="at least one band"):
        indices(scene, ["mine = 3 * L"])
    with pytest.raises(ParameterError, match="found both"):
        indices(scene, ["mine = nir * red"], red=2)


def test_a_constant_without_default_must_be_given():
    pytest.importorskip("spyndex")
    with pytest.raises(ParameterError, match=r"'lambdaN'.*'FAI'.*give lambdaN="):
        indices(image(), ["FAI"])


def test_images_that_are_none_are_refused():
    scene = image(bands=("vv", "vh"))
    with pytest.raises(ParameterError, match="complex"):
        indices(scene.astype(np.complex64), "rvi")
    with pytest.raises(ParameterError, match=r"\(band, y, x\)"):
        indices(scene[0], "rvi")
    with pytest.raises(ParameterError, match="at least one pixel"):
        indices(scene[:, :0], "rvi")
    with pytest.raises(ParameterError, match="expected numbers"):
        indices(scene.astype(str), "rvi")
    with pytest.raises(ParameterError, match="in dB"):
        indices(scene.assign_attrs(units="dB"), "rvi")
    twice = image(bands=("red", "red", "nir"))
    with pytest.raises(BandMismatchError, match="2 times"):
        indices(twice, "ndvi")
