"""What the tree promises as a whole."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import geofuse
from geofuse.cli import COMMANDS
from geofuse.landcover import CLASSIFIERS
from geofuse.landcover.classifier import LandCoverClassifier
from geofuse.spatiotemporal import ALL_METHODS, METHODS
from geofuse.spatiotemporal.method import FusionMethod
from tests.contracts.test_classifiers import CLASSIFIERS_UNDER_CONTRACT
from tests.contracts.test_fusion_methods import METHODS_UNDER_CONTRACT

ROOT = Path(geofuse.__file__).parent
STUB = (ROOT / "__init__.pyi").read_text()
PUBLIC = re.findall(r"^from \S+ import \w+ as (\w+)$", STUB, re.M)


def concrete_methods(base=FusionMethod):
    for module in pkgutil.walk_packages(geofuse.__path__, "geofuse."):
        importlib.import_module(module.name)
    pending, found = [base], set()
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if not inspect.isabstract(kind) and kind.__module__.startswith("geofuse."):
            found.add(kind)
    return found


def test_every_method_has_a_name_and_is_under_contract():
    assert concrete_methods() == set(ALL_METHODS.values())
    assert {type(method) for method in METHODS_UNDER_CONTRACT} <= concrete_methods()


def test_every_classifier_has_a_name_and_is_under_contract():
    concrete = concrete_methods(LandCoverClassifier)
    assert concrete == set(CLASSIFIERS.values())
    assert concrete == {type(one) for one in CLASSIFIERS_UNDER_CONTRACT}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(geofuse, name)
    assert name in dir(geofuse)
    if callable(thing) or inspect.ismodule(thing):
        assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        text = inspect.getdoc(thing)
        assert "Args:" in text
        assert "Raises:" in text
        for parameter in inspect.signature(thing).parameters:
            assert f"{parameter}:" in text


def test_public_names_are_not_forgotten():
    assert len(PUBLIC) > 15
    assert set(geofuse.__all__) >= set(PUBLIC)


def test_files_are_named_for_what_they_hold():
    empty_words = {
        "utils",
        "helpers",
        "common",
        "core",
        "base",
        "models",
        "config",
        "misc",
    }
    assert not empty_words & {path.stem for path in ROOT.rglob("*.py")}


def test_annotations_are_not_postponed():
    sources = [path.read_text() for path in ROOT.rglob("*.py")]
    assert not [s for s in sources if "from __future__ import annotations" in s]


def test_importing_geofuse_imports_nothing_heavy():
    heavy = ("jax", "xarray", "rasterio", "dask", "numpy", "pandas")
    code = f"import sys, geofuse, geofuse.cli; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_readme_names_every_command_and_every_method():
    readme = (ROOT.parent / "README.md").read_text()
    for command in COMMANDS:
        assert f"geofuse {command}" in readme
    for method in METHODS:
        assert f"`{method}`" in readme
