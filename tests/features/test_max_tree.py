import numpy as np
import pytest
from skimage.morphology import area_opening, diameter_opening

from geofuse.features.attributes import ATTRIBUTES, Pixels, rounding_unit
from geofuse.features.levels import decode, encode
from geofuse.features.max_tree import (
    add_to_parents,
    keep_regions,
    max_tree,
    reconstruct_nodes,
    region_sums,
    sorted_pixels,
)
from geofuse.features.reconstruction import reconstruct
from tests.oracles import connected
from tests.oracles.grounds import grounds

IMAGES = grounds(47, 62)
WHOLE = [name for name in IMAGES if name != "holes float32"]


def levels_of(image):
    return encode(image, np.ones(image.shape, bool))


def filtered(image, attribute, threshold, connectivity):
    """An attribute opening on one tree, put together from the kernels."""
    tree = max_tree(levels_of(image), connectivity=connectivity)
    kind, unit = ATTRIBUTES[attribute], rounding_unit((threshold,))
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].reshape(2, -1)
    values = np.nan_to_num(image.astype(float)).ravel()
    each = kind.contributions(Pixels(values, rows, columns), unit)
    totals = region_sums(tree.node.ravel(), tree.level.size, each, kind.largest)
    nothing_held = np.zeros(tree.level.size, bool)
    add_to_parents(totals, tree.parent, nothing_held, kind.largest)
    kept = kind.measure(totals, unit) >= threshold
    unknown = np.zeros_like(tree.level)
    levels = keep_regions(tree.level, tree.parent, kept, unknown)
    return decode(np.append(levels, np.uint32(0))[tree.node], image.dtype)


@pytest.mark.parametrize("name", IMAGES)
def test_a_parent_is_lower_and_comes_first(name):
    levels = levels_of(IMAGES[name])
    tree = max_tree(levels)
    child = np.flatnonzero(tree.parent >= 0)
    assert (tree.parent[child] < child).all()
    assert (tree.level[tree.parent[child]] < tree.level[child]).all()
    assert (np.diff(tree.level.astype(np.int64)) >= 0).all()
    inside = levels > 0
    np.testing.assert_array_equal(tree.level[tree.node[inside]], levels[inside])
    assert (tree.node[~inside] == -1).all()


def test_pixels_are_sorted_by_level_and_walls_left_out():
    levels = np.random.default_rng(0).integers(0, 2**32, 5000, dtype=np.uint32)
    levels[::7] = 0
    levels[::5] = 77
    expected = np.argsort(levels, kind="stable")[np.count_nonzero(levels == 0) :]
    np.testing.assert_array_equal(sorted_pixels(levels), expected)


def test_an_image_of_walls_is_an_empty_tree():
    tree = max_tree(np.zeros((4, 5), np.uint32))
    assert tree.level.size == 0
    assert (tree.node == -1).all()


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("name", WHOLE)
def test_openings_equal_scikit_image(name, connectivity):
    image = IMAGES[name]
    steps = connectivity // 4
    for threshold in (3, 30, 400):
        np.testing.assert_array_equal(
            filtered(image, "area", threshold, connectivity),
            area_opening(image, threshold, connectivity=steps),
        )
    np.testing.assert_array_equal(
        filtered(image, "diameter", 9, connectivity),
        diameter_opening(image, 9, connectivity=steps),
    )


@pytest.mark.parametrize(
    ("attribute", "threshold"),
    [("area", 6), ("diameter", 3), ("diagonal", 4.2), ("std", 0.05), ("inertia", 0.18)],
)
@pytest.mark.parametrize("connectivity", [4, 8])
def test_every_attribute_is_as_defined_with_walls(attribute, threshold, connectivity):
    image = IMAGES["holes float32"][:13, :12]
    np.testing.assert_array_equal(
        filtered(image, attribute, threshold, connectivity),
        connected.attribute_opening(
            image.astype(float), attribute, threshold, connectivity
        ),
    )


@pytest.mark.parametrize("attribute", ["area", "std"])
def test_attribute_filters_equal_higra(attribute):
    higra = pytest.importorskip("higra")
    image = IMAGES["natural uint16"]
    threshold = {"area": 40, "std": 300.0}[attribute]
    graph = higra.get_8_adjacency_graph(image.shape)
    tree, altitudes = higra.component_tree_max_tree(graph, image.astype(float))
    if attribute == "area":
        values = higra.attribute_area(tree)
    else:
        gray = image.astype(float).ravel()
        count = higra.accumulate_sequential(
            tree, np.ones_like(gray), higra.Accumulators.sum
        )
        mean = higra.accumulate_sequential(tree, gray, higra.Accumulators.sum) / count
        squares = higra.accumulate_sequential(tree, gray**2, higra.Accumulators.sum)
        values = np.sqrt(np.maximum(squares / count - mean**2, 0))
    expected = higra.reconstruct_leaf_data(tree, altitudes, values < threshold)
    np.testing.assert_array_equal(filtered(image, attribute, threshold, 8), expected)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("name", IMAGES)
def test_the_tree_reconstructs_like_the_hybrid_algorithm(name, connectivity):
    image = IMAGES[name]
    some = np.random.default_rng(2).random(image.shape) < 0.02
    lowest = np.array(np.nanmin(image), image.dtype)
    marker = np.where(some, image, lowest)
    expected = reconstruct(
        np.where(np.isnan(image), np.nan, marker).astype(image.dtype)
        if image.dtype.kind == "f"
        else marker,
        image,
        connectivity=connectivity,
    )
    tree = max_tree(levels_of(image), connectivity=connectivity)
    nothing = np.empty(0, np.int64)
    levels = reconstruct_nodes(
        tree.node.ravel(),
        tree.level,
        tree.parent,
        levels_of(marker).ravel(),
        nothing,
        nothing.astype(np.uint32),
    )
    found = decode(np.append(levels, np.uint32(0))[tree.node], image.dtype)
    np.testing.assert_array_equal(found, expected)


def test_whole_numbers_are_never_rounded():
    assert rounding_unit((5000.0, 9000.0)) == 1.0
    assert rounding_unit((1.0,)) == 2.0**-10
    assert rounding_unit((0.05,)) <= 0.05 / 1024
