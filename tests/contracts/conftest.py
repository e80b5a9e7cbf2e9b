"""Contracts of networks compile for minutes: by default those that matter most.

With GEOFUSE_ALL_CONTRACTS=1 every promise is checked for every method.
"""

import os

#: Methods and classifiers whose promises take long to check.
SLOW = (
    "KernelNet",
    "MixtureNet",
    "EDCSTFN",
    "EarlyNetwork",
    "IntermediateFusion",
    "PrecisionFusion",
    "LateFusion-stacking",
)
#: What is checked of them all the same.
ALWAYS = (
    "test_tile_size_never_changes_the_result[1-",
    "test_tile_size_never_changes_the_result[EarlyNetwork",
    "test_tile_size_never_changes_the_result[IntermediateFusion",
    "test_tile_size_never_changes_the_result[LateFusion",
    "test_where_no_pair_is_valid",
    "test_where_nothing_is_present",
    "test_probabilities_and_weights",
    "test_a_modality_left_out",
    "test_a_saved_and_loaded",
    "test_bad_input",
    "test_variances_are_stated",
    "test_nothing_is_computed",
    "test_grid_",
)


def pytest_collection_modifyitems(config, items):
    """Leave out what takes long, unless all is asked for."""
    if os.environ.get("GEOFUSE_ALL_CONTRACTS"):
        return
    slow = [
        item
        for item in items
        if "contracts" in item.nodeid
        and any(name in item.nodeid for name in SLOW)
        and not any(item.name.startswith(name) for name in ALWAYS)
    ]
    if slow:
        config.hook.pytest_deselected(items=slow)
        left_out = {id(item) for item in slow}
        items[:] = [item for item in items if id(item) not in left_out]
