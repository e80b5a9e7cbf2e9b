"""Sentinel-1 GRD: a tiny SAFE folder with known geometry, tables and noise."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.warp import Resampling, reproject

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
    RasterReadError,
)
from geofuse.rasters.grid import grid_of
from geofuse.rasters.sar import open_sar
from geofuse.rasters.speckle.filters import despeckle

LINES, PIXELS = 90, 150
#: Pixels of a descending pass: 10 m, turned by 167 degrees, in UTM zone 33.
RADAR = Affine.translation(510_000, 5_100_000) * Affine.rotation(167) * Affine.scale(10)
STEM = "s1a-iw-grd-{}-20210702t051234-20210702t051259-038593-048dd4-00{}"


def sigma_table(line, pixel):
    return 400 + 0.5 * line + 0.25 * pixel


def gamma_table(line, pixel):
    return 350 + 0.5 * line + 0.25 * pixel


def noise_table(pixel):
    return 1000 + 20 * pixel


def angle_table(pixel):
    return 30 + pixel / 10


def control_points():
    to_degrees = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    points = []
    for line in (0, 30, 60, LINES - 1):
        for pixel in (0, 50, 100, PIXELS - 1):
            # A point of ESA's lies in the middle of its pixel.
            x, y = to_degrees.transform(*(RADAR * (pixel + 0.5, line + 0.5)))
            points.append((line, pixel, x, y))
    return points


def vectors(names, lines, pixels, tag, extra=""):
    text = ""
    for line in lines:
        numbers = "".join(
            f"<{name}>{' '.join(f'{table(line, p):.12g}' for p in pixels)}</{name}>"
            for name, table in names.items()
        )
        listed = " ".join(map(str, pixels))
        text += f"<{tag}><line>{line}</line><pixel>{listed}</pixel>{numbers}</{tag}>"
    return f"<root>{text}{extra}</root>"


@pytest.fixture
def safe(tmp_path):
    """A SAFE folder of vv and vh, and its DN (band, line, pixel)."""
    folder = tmp_path / "S1A_IW_GRDH_1SDV_20210702T051234_20210702T051259_038593.SAFE"
    tables = folder / "annotation" / "calibration"
    tables.mkdir(parents=True)
    (folder / "measurement").mkdir()
    (folder / "manifest.safe").write_text("<xml/>")
    dn = np.random.default_rng(0).integers(50, 400, (2, LINES, PIXELS)).astype("uint16")
    dn[:, :, :10] = 0
    points = control_points()
    for number, name in enumerate(("vv", "vh")):
        stem = STEM.format(name, number + 1)
        with rasterio.open(
            folder / "measurement" / f"{stem}.tiff",
            "w",
            driver="GTiff",
            count=1,
            height=LINES,
            width=PIXELS,
            dtype="uint16",
            crs="EPSG:4326",
            gcps=[GroundControlPoint(r + 0.5, c + 0.5, x, y) for r, c, x, y in points],
        ) as dataset:
            dataset.write(dn[number], 1)
        grid = "".join(
            f"<geolocationGridPoint><line>{line}</line><pixel>{pixel}</pixel>"
            f"<latitude>{y!r}</latitude><longitude>{x!r}</longitude>"
            f"<incidenceAngle>{angle_table(pixel)}</incidenceAngle>"
            "</geolocationGridPoint>"
            for line, pixel, x, y in points
        )
        (folder / "annotation" / f"{stem}.xml").write_text(
            "<product><adsHeader><startTime>2021-07-02T05:12:34.1</startTime>"
            "</adsHeader><imageAnnotation><imageInformation><rangePixelSpacing>"
            "1.000000e+01</rangePixelSpacing></imageInformation></imageAnnotation>"
            f"{grid}</product>"
        )
        names = {"sigmaNought": sigma_table, "gamma": gamma_table}
        (tables / f"calibration-{stem}.xml").write_text(
            vectors(names, (-10, 40, 120), (0, 40, 80, 149), "calibrationVector")
        )
        azimuth = (
            "<noiseAzimuthVector><firstAzimuthLine>0</firstAzimuthLine>"
            "<lastAzimuthLine>44</lastAzimuthLine><firstRangeSample>0"
            "</firstRangeSample><lastRangeSample>149</lastRangeSample>"
            "<line>0 44</line><noiseAzimuthLut>2 2</noiseAzimuthLut>"
            "</noiseAzimuthVector>"
        )
        (tables / f"noise-{stem}.xml").write_text(
            vectors(
                {"noiseRangeLut": lambda line, pixel: noise_table(pixel)},
                (0, 89),
                (0, 75, 149),
                "noiseRangeVector",
                azimuth,
            )
        )
    return folder, dn


def by_hand(image, values):
    """Radar pixels (band, line, pixel) at the nearest map pixels, NaN outside."""
    x, y = np.meshgrid(image["x"].values, image["y"].values)
    pixel, line = ~RADAR * (x, y)
    pixel, line = np.rint(pixel - 0.5).astype(int), np.rint(line - 0.5).astype(int)
    inside = (line >= 0) & (line < LINES) & (pixel >= 0) & (pixel < PIXELS)
    found = np.full((len(values), *x.shape), np.nan)
    found[:, inside] = values[:, line[inside], pixel[inside]]
    return found


def expected_power(dn, table, noise=0.0):
    line, pixel = np.mgrid[:LINES, :PIXELS]
    power = (dn.astype(float) ** 2 - noise) / table(line, pixel) ** 2
    return np.where(dn == 0, np.nan, power)


@pytest.mark.parametrize(
    ("quantity", "table"), [("sigma0", sigma_table), ("gamma0", gamma_table)]
)
def test_dn_become_calibrated_power_on_a_map(safe, quantity, table):
    folder, dn = safe
    image = open_sar(folder, quantity=quantity, terrain_correction="none")
    assert grid_of(image).crs.to_epsg() == 32633
    assert list(image["band"].values) == ["vv", "vh"]
    assert image.name == image.attrs["quantity"] == quantity
    assert image.attrs["terrain_correction"] == "none"
    assert str(image["time"].values)[:10] == "2021-07-02"
    expected = by_hand(image, expected_power(dn, table))
    assert 0.4 < np.isfinite(expected).mean() < 0.9
    np.testing.assert_allclose(image.values, expected, rtol=1e-6)


def test_thermal_noise_is_subtracted_where_asked(safe):
    folder, dn = safe
    image = open_sar(folder, terrain_correction="none", thermal_noise="subtracted")
    line, pixel = np.mgrid[:LINES, :PIXELS]
    noise = noise_table(pixel) * np.where(line <= 44, 2, 1)
    expected = by_hand(image, expected_power(dn, sigma_table, noise))
    np.testing.assert_allclose(image.values, expected, rtol=1e-5, atol=1e-9)
    assert image.attrs["thermal_noise"] == "subtracted"


def test_the_layout_of_noise_before_2018_is_read(safe):
    folder, dn = safe
    for path in folder.glob("annotation/calibration/noise-*.xml"):
        table = {"noiseLut": lambda line, pixel: noise_table(pixel)}
        path.write_text(vectors(table, (0, 89), (0, 149), "noiseVector"))
    image = open_sar(folder, terrain_correction="none", thermal_noise="subtracted")
    noise = noise_table(np.mgrid[:LINES, :PIXELS][1])
    expected = by_hand(image, expected_power(dn, sigma_table, noise))
    np.testing.assert_allclose(image.values, expected, rtol=1e-5, atol=1e-9)


def test_the_map_agrees_with_gdal(safe):
    folder, dn = safe
    image = open_sar(folder, terrain_correction="none", polarizations=["vv"])
    grid = grid_of(image)
    warped = np.zeros(grid.shape, "float64")
    path = next(folder.glob("measurement/*-vv-*"))
    with rasterio.open(path) as dataset:
        gcps, crs = dataset.gcps
    reproject(
        expected_power(dn[0], sigma_table),
        warped,
        gcps=gcps,
        src_crs=crs,
        dst_transform=grid.affine,
        dst_crs=str(grid.crs),
        resampling=Resampling.nearest,
        dst_nodata=np.nan,
        src_nodata=np.nan,
    )
    ours = image.values[0]
    both = np.isfinite(ours) & np.isfinite(warped)
    # GDAL's polynomial rounds a pixel the other way here and there.
    assert both.sum() > 0.98 * np.isfinite(ours).sum()
    assert (np.abs(ours / warped - 1)[both] < 1e-5).mean() > 0.98


def test_the_incidence_angle_is_carried_along(safe):
    folder, _ = safe
    image = open_sar(folder, terrain_correction="none")
    x, y = np.meshgrid(image["x"].values, image["y"].values)
    pixel, _ = ~RADAR * (x, y)
    inside = np.isfinite(by_hand(image, np.ones((1, LINES, PIXELS)))[0])
    angle = image["incidence_angle"].values
    np.testing.assert_array_equal(np.isfinite(angle), inside)
    np.testing.assert_allclose(
        angle[inside], angle_table(pixel - 0.5)[inside], atol=1e-4
    )


def test_chunks_and_a_box_change_nothing(safe):
    folder, _ = safe
    whole = open_sar(folder / "manifest.safe", terrain_correction="none")
    tiled = open_sar(folder, terrain_correction="none", chunks=37)
    np.testing.assert_array_equal(tiled.values, whole.values)
    bounds = grid_of(whole)[20:70, 33:140].boundingbox.bbox
    part = open_sar(folder, terrain_correction="none", bbox=bounds, chunks=16)
    np.testing.assert_array_equal(part.values, whole.values[:, 20:70, 33:140])
    np.testing.assert_array_equal(
        part["incidence_angle"].values, whole["incidence_angle"].values[20:70, 33:140]
    )


def test_a_product_is_despeckled_from_its_folder(safe, tmp_path, geofuse_command):
    image = open_sar(safe[0], terrain_correction="none", polarizations=["vh"])
    smooth = despeckle(image, "lee", looks=4.4)
    assert smooth["incidence_angle"].dims == ("y", "x")
    out = tmp_path / "out.tif"
    words = ("--filter", "lee", "--looks", "4.4", "--polarizations", "vh")
    code, _, err = geofuse_command(
        "despeckle", safe[0], "-o", out, "--terrain-correction", "none", *words
    )
    assert (code, err) == (0, "")
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(), smooth.values)
        assert dataset.tags()["terrain_correction"] == "none"


def test_without_being_asked_it_is_refused_with_that_word(safe):
    with pytest.raises(GridMismatchError, match="without terrain correction"):
        open_sar(safe[0])


def test_what_does_not_fit_is_refused(safe):
    folder, _ = safe
    none = {"terrain_correction": "none"}
    with pytest.raises(DateMismatchError, match="2021-07-02, found 2021-07-03"):
        open_sar(folder, date="2021-07-03", **none)
    with pytest.raises(BandMismatchError, match="'hh', found vv, vh"):
        open_sar(folder, polarizations=["hh"], **none)
    with pytest.raises(ParameterError, match="no unit of a SAFE folder"):
        open_sar(folder, unit="db", **none)
    with pytest.raises(ParameterError, match="expected a quantity"):
        open_sar(folder, quantity="power", **none)
    with pytest.raises(ParameterError, match="terrain_correction"):
        open_sar(folder, terrain_correction="nono")
    for path in folder.glob("annotation/calibration/noise-*"):
        path.unlink()
    with pytest.raises(ParameterError, match="table of thermal noise"):
        open_sar(folder, thermal_noise="subtracted", **none)


@pytest.mark.parametrize(
    ("pattern", "text", "message"),
    [
        ("annotation/calibration/calibration-*-vv-*", None, "incomplete"),
        ("annotation/calibration/calibration-*-vv-*", "<root/>", "not in order"),
        ("annotation/calibration/calibration-*-vv-*", "no xml", "makes no sense"),
        (
            "annotation/s1a-*-vv-*",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "declarations",
        ),
        ("annotation/s1a-*-vv-*", "<product/>", "makes no sense"),
        ("measurement/*-vv-*", b"", "none or is damaged"),
    ],
)
def test_a_damaged_product_is_refused(safe, pattern, text, message):
    path = next(safe[0].glob(pattern))
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RasterReadError, match=message):
        open_sar(safe[0], terrain_correction="none")


def test_a_table_that_is_0_somewhere_is_refused(safe):
    path = next(safe[0].glob("annotation/calibration/calibration-*-vv-*"))
    names = {"sigmaNought": lambda line, pixel: pixel}
    path.write_text(vectors(names, (0, 90), (0, 149), "calibrationVector"))
    with pytest.raises(RasterReadError, match="not above 0"):
        open_sar(safe[0], terrain_correction="none")


def test_a_complex_product_and_an_empty_folder_are_refused(safe, tmp_path):
    path = next(safe[0].glob("measurement/*-vv-*"))
    path.rename(path.with_name(path.name.replace("-grd-", "-slc-")))
    with pytest.raises(RasterReadError, match="complex one \\(SLC\\)"):
        open_sar(safe[0], terrain_correction="none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RasterReadError, match="no measurement"):
        open_sar(tmp_path / "empty", terrain_correction="none")
