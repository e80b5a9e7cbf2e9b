import functools
import hashlib
import http.server
import json
import threading
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    GridMismatchError,
    NothingFoundError,
    ParameterError,
    RasterReadError,
    RemoteError,
    UnknownNameError,
)
from geofuse.rasters.catalog import boxes_of, find_items, search
from geofuse.rasters.fetch import Fetcher
from geofuse.rasters.grid import grid_of
from geofuse.rasters.quality import valid_from
from geofuse.rasters.scenes import open_items
from geofuse.rasters.stac_items import SceneItem, period_of

UTM = "EPSG:32633"
GRID = Affine(10, 0, 500_000, 0, -10, 5_100_000)
LIKE = GeoBox((40, 60), GRID, UTM)
COLLECTION = "sentinel-2-l2a"


def outline(left, bottom, right, top):
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    return [*corners, corners[0]]


class Archive:
    """A local catalog of scenes, written as a test needs them."""

    def __init__(self, folder):
        self.folder = folder
        self.features = []

    def scene(
        self,
        name,
        dn,
        *,
        day="2023-07-01",
        transform=GRID,
        crs=UTM,
        raster=None,
        properties=None,
        asset=None,
        bbox=None,
        key="red",
        **profile,
    ):
        dn = np.asarray(dn)
        path = self.folder / "data" / f"{name}_{key}.tif"
        path.parent.mkdir(exist_ok=True)
        profile = {
            "nodata": 0,
            "tiled": True,
            "blockxsize": 16,
            "blockysize": 16,
        } | profile
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=1,
            height=dn.shape[0],
            width=dn.shape[1],
            dtype=dn.dtype.name,
            crs=crs,
            transform=transform,
            **profile,
        ) as file:
            file.write(dn, 1)
        if bbox is None:
            corners = GeoBox(dn.shape, transform, crs).boundingbox
            to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
            bbox = to_degrees.transform_bounds(*corners.bbox)
        described = {
            "href": f"./data/{path.name}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "eo:bands": [{"name": key, "common_name": key}],
        }
        if raster is not None:
            described["raster:bands"] = [raster]
        described |= asset or {}
        known = [f for f in self.features if f["id"] == name]
        if known:
            known[0]["assets"][key] = described
        else:
            self.features.append(
                {
                    "type": "Feature",
                    "stac_version": "1.0.0",
                    "id": name,
                    "collection": COLLECTION,
                    "bbox": list(bbox),
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [outline(*bbox)],
                    },
                    "properties": {"datetime": f"{day}T10:00:00Z"} | (properties or {}),
                    "assets": {key: described},
                    "links": [],
                }
            )
        return path

    def save(self):
        path = self.folder / "items.json"
        content = {"type": "FeatureCollection", "features": self.features}
        path.write_text(json.dumps(content))
        return path

    def search(
        self, *, period="2023", bands=("red",), like=LIKE, place=None, **options
    ):
        place = place or (-180, -90, 180, 90)
        return search(
            place,
            period,
            COLLECTION,
            catalog=self.save(),
            bands=list(bands),
            like=like,
            **options,
        )


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def dn(value=2000, rows=40, columns=60):
    return np.full((rows, columns), value, "uint16")


# --- units
# ------------------------------------------------------------------------------


def test_each_scene_has_its_own_offset_before_scenes_are_put_together(archive):
    # One ground of reflectance 0.2, stored with and without the 1000 of baseline 04.00.
    left, right = dn(2000), dn(3000)
    left[:, 35:] = 0
    right[:, :25] = 0
    old = {"scale": 1e-4, "offset": 0, "nodata": 0}
    archive.scene("a", left, raster=old)
    archive.scene("b", right, raster={**old, "offset": -0.1})
    cube = archive.search()
    assert cube.dims == ("time", "band", "y", "x")
    np.testing.assert_allclose(cube.values, 0.2, rtol=1e-6)
    assert cube.attrs["items"] == "a, b"


@pytest.mark.parametrize(
    ("raster", "asset", "properties", "options", "expected"),
    [
        ({"scale": 1e-4, "offset": -0.1}, {}, {}, {}, 0.1),
        (None, {"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}]}, {}, {}, 0.1),
        (None, {"raster:scale": 1e-4, "raster:offset": 0.3}, {}, {}, 0.5),
        (
            {"scale": 1e-4, "offset": -0.1},
            {},
            {"earthsearch:boa_offset_applied": True},
            {},
            0.2,
        ),
        ({"scale": 1e-4, "offset": -0.1}, {}, {}, {"offset": "applied"}, 0.2),
        ({"scale": 1e-4, "offset": -0.1}, {}, {}, {"offset": 0.05}, 0.25),
        (None, {}, {"s2:processing_baseline": "05.09"}, {"sensor": "gain=1e-4"}, 0.1),
        (None, {}, {"s2:processing_baseline": "03.01"}, {"sensor": "gain=1e-4"}, 0.2),
        (None, {}, {}, {"sensor": "sentinel2-l2a"}, 0.1),
        (None, {}, {}, {}, 2000),
    ],
)
def test_gain_and_offset_are_those_of_the_item(
    archive, raster, asset, properties, options, expected
):
    archive.scene("a", dn(), raster=raster, asset=asset, properties=properties)
    cube = archive.search(**options)
    np.testing.assert_allclose(cube.values, expected, rtol=1e-6)
    assert cube.dtype == np.float32


def test_nodata_of_item_and_file_are_invalid(archive):
    values = dn()
    values[2, 3], values[4, 5] = 0, 7
    archive.scene("a", values, raster={"nodata": 7})
    found = archive.search().values[0, 0]
    assert np.isnan(found[2, 3])
    assert np.isnan(found[4, 5])
    assert np.isnan(found).sum() == 2


def test_quality_takes_pixels_out_before_anything_is_mixed(archive):
    values = dn()
    values[:, :10] = 60_000  # a cloud
    classes = np.full((20, 30), 4, "uint8")
    classes[:, :5] = 9
    archive.scene("a", values)
    archive.scene(
        "a", classes, key="scl", transform=GRID * Affine.scale(2), nodata=None
    )
    archive.scene("b", dn(3000), day="2023-07-01")
    seen = []

    def usable(quality):
        seen.append(quality.dtype)
        return quality != 9

    cube = archive.search().values[0, 0]
    assert cube[0, 0] == 60_000
    archive.scene(
        "b",
        np.full((20, 30), 4, "uint8"),
        key="scl",
        nodata=None,
        transform=GRID * Affine.scale(2),
    )
    cube = archive.search(quality=("scl", usable)).values[0, 0]
    assert (cube[:, :10] == 3000).all()
    assert (cube[:, 10:] == 2000).all()
    assert set(seen) == {np.dtype("uint8")}


def test_quality_layers_are_known_by_name(archive):
    classes = np.full((20, 30), 4, "uint8")
    classes[:, :5] = 9  # cloud
    archive.scene("a", dn())
    archive.scene(
        "a", classes, key="scl", transform=GRID * Affine.scale(2), nodata=None
    )
    usable = functools.partial(valid_from, layer="sentinel2-scl")
    found = archive.search(quality=("scl", usable)).values[0, 0]
    assert np.isnan(found[:, :10]).all()
    assert (found[:, 10:] == 2000).all()


# --- places and times
# -------------------------------------------------------------------


def test_scenes_of_two_utm_zones_come_onto_the_one_grid(archive):
    corner = (500_000 + 300, 5_100_000 - 200)
    x, y = Transformer.from_crs(UTM, "EPSG:32632", always_xy=True).transform(*corner)
    there = Affine(10, 0, round(x, -1) - 800, 0, -10, round(y, -1) + 800)
    archive.scene("a", dn(2000, 160, 160), transform=there, crs="EPSG:32632")
    archive.scene("b", dn(3000), day="2023-07-05")
    cube = archive.search()
    assert cube.sizes["time"] == 2
    np.testing.assert_allclose(cube.values[0], 2000, rtol=1e-6)
    np.testing.assert_array_equal(cube.values[1], 3000)
    assert grid_of(cube) == LIKE


def test_days_are_in_order_and_a_period_includes_its_ends(archive):
    for day in ("2023-07-31", "2023-07-01", "2023-08-01", "2023-06-30"):
        archive.scene(day, dn(), day=day)
    cube = archive.search(period="2023-07")
    assert [str(t)[:10] for t in cube["time"].values] == ["2023-07-01", "2023-07-31"]
    cube = archive.search(period="2023-07-31/2023-08-01")
    assert cube.sizes["time"] == 2
    for bad in ("July", "2023-07-31/2023-07-01", ("2023", "2024", "2025"), ""):
        with pytest.raises(ParameterError, match="expected a period"):
            period_of(bad)


def test_a_place_across_180_degrees_is_two_boxes(archive):
    fiji = GeoBox((40, 60), Affine(10, 0, 800_000, 0, -10, 8_000_000), "EPSG:32760")
    archive.scene(
        "across",
        dn(),
        transform=fiji.affine,
        crs="EPSG:32760",
        bbox=(179.5, -19, -179, -17),
    )
    archive.scene("elsewhere", dn(), bbox=(0, -19, 10, -17))
    for place in (
        (179, -20, -179, -16),
        (-179.8, -20, -179.5, -16),
        (179.6, -20, 180, -16),
    ):
        found = find_items(place, "2023", COLLECTION, catalog=archive.save())
        assert [item.id for item in found] == ["across"]
    np.testing.assert_array_equal(
        archive.search(place=(179, -20, -179, -16), like=fiji).values, 2000
    )
    for bad in ((0, 10, 1, 5), (0, 0, 200, 10), (0, 0, 10), (0, -91, 1, 0)):
        with pytest.raises(ParameterError, match="in degrees"):
            boxes_of(bad)


def test_an_image_may_be_the_place(archive):
    archive.scene("a", dn())
    cube = archive.search()
    place = cube.isel(time=0)
    found = find_items(place, "2023", COLLECTION, catalog=archive.save())
    assert [item.id for item in found] == ["a"]


def test_an_empty_answer_says_what_there_is(archive):
    archive.scene("a", dn())
    with pytest.raises(NothingFoundError, match="found none"):
        archive.search(period="2020")
    with pytest.raises(NothingFoundError, match=r"which has sentinel-2-l2a"):
        find_items((0, 0, 1, 1), "2023", "landsat", catalog=archive.save())
    far = GeoBox((9, 9), Affine(10, 0, 700_000, 0, -10, 5_100_000), UTM)
    with pytest.raises(NothingFoundError, match="on the grid"):
        archive.search(like=far)
    with pytest.raises(ParameterError, match="at most 0"):
        archive.search_items = find_items(
            (-180, -90, 180, 90),
            "2023",
            COLLECTION,
            catalog=archive.save(),
            most_items=0,
        )


def test_what_is_asked_for_wrongly_is_refused(archive):
    archive.scene("a", dn())
    with pytest.raises(BandMismatchError, match="did you mean 'red'"):
        archive.search(bands=("rad",))
    with pytest.raises(UnknownNameError, match="applied, none"):
        archive.search(offset="perhaps")
    with pytest.raises(ParameterError, match="names of bands"):
        open_items([], bands="red", like=LIKE)
    with pytest.raises(CRSMismatchError, match="with a CRS"):
        archive.search(like=GeoBox((4, 4), GRID, None))


# --- local files
# ------------------------------------------------------------------------


def test_links_of_a_catalog_are_followed_within_its_folder_only(archive, tmp_path):
    archive.scene("a", dn())
    item = archive.features[0]
    folder = archive.folder / "stac"
    folder.mkdir()
    (archive.folder / "outside.json").write_text(json.dumps(item))
    item = json.loads(json.dumps(item))
    (folder / "data").symlink_to(archive.folder / "data")
    (folder / "item.json").write_text(json.dumps(item))
    links = [
        {"rel": "item", "href": f"./{n}"} for n in ("item.json", "../outside.json")
    ]
    links.append({"rel": "child", "href": "https://example.org/catalog.json"})
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps({"type": "Catalog", "id": "c", "links": links}))
    whole = (-180, -90, 180, 90)
    assert len(find_items(whole, "2023", COLLECTION, catalog=catalog)) == 1
    # The link leads to files outside of the catalog's folder.
    with pytest.raises(RasterReadError, match="nothing else is read"):
        search(whole, "2023", COLLECTION, catalog=catalog, bands=["red"], like=LIKE)


@pytest.mark.parametrize(
    "href",
    [
        "../secret.tif",
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://bucket/a.tif",
        "/vsicurl/http://127.0.0.1/a.tif",
        "ftp://host/a.tif",
        "",
    ],
)
def test_nothing_outside_of_the_catalog_is_read(archive, href):
    archive.scene("a", dn(), asset={"href": href})
    with pytest.raises(RasterReadError, match="expected an a"):
        archive.search()


def test_a_local_file_that_is_missing_or_damaged_is_an_error(archive):
    path = archive.scene("a", dn())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RasterReadError):
        archive.search()
    path.unlink()
    with pytest.raises(RasterReadError, match="found nothing"):
        archive.search()


def test_a_file_on_another_grid_than_its_item_states_is_refused(archive):
    stated = {"proj:code": UTM, "proj:shape": [40, 60]}
    moved = [10, 0, 500_005, 0, -10, 5_100_000]
    archive.scene("a", dn(), asset={**stated, "proj:transform": moved})
    with pytest.raises(GridMismatchError, match="as the item states"):
        archive.search()


def test_what_is_no_item_is_told(tmp_path):
    for content in ("{", '{"type": "FeatureCollection", "features": [{}]}', "[]"):
        path = tmp_path / "items.json"
        path.write_text(content)
        with pytest.raises((RasterReadError, NothingFoundError)):
            find_items((0, 0, 1, 1), "2023", COLLECTION, catalog=path)
    with pytest.raises(RasterReadError, match="STAC item"):
        SceneItem.from_dict(
            {"id": "a", "bbox": [0, 0, 1], "properties": {}, "assets": {}}
        )


# --- remote files
# -----------------------------------------------------------------------


class Host(http.server.BaseHTTPRequestHandler):
    """A host that misbehaves as its server's `faults` say, first come first served."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        fault = server.faults.pop(0) if server.faults else "none"
        path = server.folder / self.path.split("?")[0].lstrip("/")
        if fault.isdigit() or not path.is_file():
            self.send_error(int(fault) if fault.isdigit() else 404)
            return
        if fault.startswith("http"):
            self.send_response(302)
            self.send_header("Location", fault)
            self.end_headers()
            return
        content = path.read_bytes()
        if fault == "flip":
            middle = len(content) // 2
            flipped = bytes([content[middle] ^ 1])
            content = content[:middle] + flipped + content[middle + 1 :]
        if fault == "html":
            content = b"<html>busy</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "short":
            content = content[:1000]
        if fault == "stall":
            self.wfile.write(content[:1000])
            self.wfile.flush()
            server.stop.wait(10)
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(archive):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.folder, server.faults, server.asked = archive.folder, [], []
    server.stop = threading.Event()
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    thread.start()
    server.origin = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


def fetcher(host, tmp_path, **options):
    options = {"wait": 0.01, "deadline": 5.0} | options
    return Fetcher(tmp_path / "kept", origins=(host.origin,), **options)


def remote(archive, host, *, stated=True, **asset):
    """The archive with its one file on the host, with a digest where it is stated."""
    values = np.random.default_rng(0).integers(1, 60_000, (40, 60)).astype("uint16")
    path = archive.scene("a", values)
    described = archive.features[0]["assets"]["red"]
    described["href"] = f"{host.origin}/data/{path.name}"
    if stated:
        described |= {
            "proj:code": UTM,
            "proj:shape": [40, 60],
            "proj:transform": list(GRID)[:6],
        }
    described |= asset
    return values, path


def test_a_remote_file_is_fetched_when_its_pixels_are(archive, host, tmp_path):
    values, _ = remote(archive, host)
    cube = archive.search(fetcher=fetcher(host, tmp_path))
    assert host.asked == []
    np.testing.assert_array_equal(cube.values[0, 0], values)
    np.testing.assert_array_equal(cube.values[0, 0], values)
    assert len(host.asked) == 1
    kept = list((tmp_path / "kept").iterdir())
    assert [path.suffix for path in kept] == [".tif"]
    assert len(kept[0].stem) == 40


def test_a_file_whose_grid_no_item_states_is_fetched_at_once(archive, host, tmp_path):
    values, _ = remote(archive, host, stated=False)
    cube = archive.search(fetcher=fetcher(host, tmp_path))
    assert len(host.asked) == 1
    np.testing.assert_array_equal(cube.values[0, 0], values)


@pytest.mark.parametrize(
    "faults",
    [["503"], ["short", "500"], ["html"], ["429", "short", "html"], ["stall"]],
)
def test_what_passes_is_tried_again(archive, host, tmp_path, faults):
    values, _ = remote(archive, host)
    host.faults += faults
    options = {"deadline": 0.5} if "stall" in faults else {}
    cube = archive.search(fetcher=fetcher(host, tmp_path, **options))
    np.testing.assert_array_equal(cube.values[0, 0], values)
    assert len(host.asked) == len(faults) + 1


def test_a_flipped_byte_is_found_by_the_stated_digest(archive, host, tmp_path):
    values, path = remote(archive, host)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    archive.features[0]["assets"]["red"]["file:checksum"] = f"1220{digest}"
    host.faults += ["flip"]
    cube = archive.search(fetcher=fetcher(host, tmp_path))
    np.testing.assert_array_equal(cube.values[0, 0], values)
    assert len(host.asked) == 2


@pytest.mark.parametrize(
    ("faults", "text", "asked"),
    [
        (["404"], "status 404", 1),
        (["403"], "status 403", 1),
        (["500"] * 9, "status 500", 3),
        (["short"] * 9, "1000 bytes of", 3),
        (["html"] * 9, "damaged", 3),
        (["https://example.org/a.tif"], "allowed origin", 1),
        (["http://localhost/a.tif"], "allowed origin", 1),
    ],
)
def test_what_stays_wrong_is_an_error_and_never_nan(
    archive, host, tmp_path, faults, text, asked
):
    remote(archive, host)
    host.faults += faults
    cube = archive.search(fetcher=fetcher(host, tmp_path, tries=3))
    with pytest.raises(RemoteError, match=text):
        cube.compute()
    assert len(host.asked) == asked
    assert not list((tmp_path / "kept").glob("*"))


def test_a_host_that_stalls_does_not_hold_longer_than_the_deadline(
    archive, host, tmp_path
):
    remote(archive, host)
    host.faults += ["stall"] * 9
    cube = archive.search(fetcher=fetcher(host, tmp_path, deadline=0.3, tries=2))
    start = time.monotonic()
    with pytest.raises(RemoteError, match="2 tries"):
        cube.compute()
    assert time.monotonic() - start < 5


def test_only_allowed_origins_are_asked(archive, host, tmp_path):
    remote(archive, host)
    with pytest.raises(RemoteError, match="fetcher="):
        archive.search()
    with pytest.raises(RemoteError, match="allowed origin"):
        archive.search(fetcher=Fetcher(tmp_path / "kept"))
    # A name that leads into the network of this machine.
    port = host.origin.split(":")[-1]
    name = f"http://localhost:{port}"
    inside = Fetcher(tmp_path / "kept", origins=(name,))
    with pytest.raises(RemoteError, match="public host"):
        inside.file(f"{name}/data/a_red.tif")
    assert host.asked == []
    for bad in ("example.org", "https://example.org/path", "file:///", "https://a@b"):
        with pytest.raises(ParameterError, match="origin"):
            Fetcher(tmp_path, origins=(bad,))
    with pytest.raises(ParameterError, match="deadline"):
        Fetcher(tmp_path, deadline=0)


def test_a_file_larger_than_allowed_is_refused(archive, host, tmp_path):
    remote(archive, host)
    cube = archive.search(fetcher=fetcher(host, tmp_path, most_bytes=2000))
    with pytest.raises(RemoteError, match="at most 2000 bytes"):
        cube.compute()


def test_an_api_is_asked_page_by_page(archive, host, tmp_path):
    for day in ("2023-07-01", "2023-07-02"):
        archive.scene(day, dn(), day=day)
    pages = []
    for number, feature in enumerate(archive.features):
        for asset in feature["assets"].values():
            asset["href"] = f"{host.origin}/{asset['href'][2:]}"
        following = [{"rel": "next", "href": f"{host.origin}/second"}]
        pages.append(
            {"type": "FeatureCollection", "features": [feature]}
            | {"links": following if number == 0 else []}
        )
    (archive.folder / "search").write_text(json.dumps(pages[0]))
    (archive.folder / "second").write_text(json.dumps(pages[1]))
    ask = functools.partial(
        search,
        (14, 45, 16, 47),
        "2023-07",
        COLLECTION,
        catalog=host.origin,
        bands=["red"],
        like=LIKE,
        fetcher=fetcher(host, tmp_path),
    )
    cube = ask()
    assert cube.sizes["time"] == 2
    np.testing.assert_array_equal(cube.values, 2000)
    assert "collections=sentinel-2-l2a" in host.asked[0]
    (archive.folder / "search").write_text("<html>")
    with pytest.raises(RemoteError, match="STAC API"):
        ask()
    elsewhere = {**pages[0], "links": [{"rel": "next", "href": "https://example.org/"}]}
    (archive.folder / "search").write_text(json.dumps(elsewhere))
    with pytest.raises(RemoteError, match="allowed origin"):
        ask()


def test_a_remote_item_names_no_local_file(archive, host, tmp_path):
    path = archive.scene("a", dn())
    item = archive.features[0]
    item["links"] = [{"rel": "self", "href": f"{host.origin}/items/a"}]
    for href in (str(path), f"file://{path}"):
        item["assets"]["red"]["href"] = href
        with pytest.raises(RasterReadError):
            open_items(
                [item], bands=["red"], like=LIKE, fetcher=fetcher(host, tmp_path)
            ).compute()


def test_items_of_pystac_are_taken(archive):
    pystac = pytest.importorskip("pystac", reason="pystac is not installed")
    archive.scene("a", dn())
    item = pystac.Item.from_dict(archive.features[0])
    with pytest.raises(RasterReadError, match="nothing else is read"):
        open_items([item], bands=["red"], like=LIKE)


def test_the_cube_is_the_same_however_it_is_computed(archive):
    values = np.random.default_rng(0).integers(1, 60_000, (40, 60)).astype("uint16")
    shifted = GRID * Affine.translation(0.3, 0.4)
    archive.scene("a", values, transform=shifted)
    cube = archive.search()
    whole = cube.values
    np.testing.assert_array_equal(cube[0, :, 5:9, 7:30].values, whole[0, :, 5:9, 7:30])
