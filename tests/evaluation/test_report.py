import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.evaluation.metrics import score
from geofuse.evaluation.report import Result, page
from geofuse.evaluation.verdict import verdict
from geofuse.synthetic import simulate_case

HOSTILE = "</script><script>alert(1)</script>"
QUOTED = "\"'><img src=x onerror=alert(1)>&amp;"


def table(**bands):
    """Scores of one metric by band, with their mean, as `score` gives them."""
    values = {**bands, "mean": np.mean(list(bands.values()))}
    rows = [("rmse", band, value, 90, "") for band, value in values.items()]
    return pd.DataFrame(rows, columns=["metric", "band", "value", "pixels", "detail"])


def result(name, *, trivial=False, **bands):
    return Result(name, xr.DataArray(0.0), table(**bands), trivial=trivial)


class Page(HTMLParser):
    """The elements of a page, with their attributes and their text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open[-1:]):
            self.texts.setdefault(tag, []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def case():
    return simulate_case(48, clouds=0.1, seed=1)


def made(case, names=("good", "bad"), errors=(0.01, 0.05), metrics=None):
    results = []
    for number, (name, error) in enumerate(zip(names, errors, strict=True)):
        generator = np.random.default_rng(number)
        change = error * generator.standard_normal(case.reference.shape)
        product = case.reference + change.astype(np.float32)
        results.append(
            Result(
                name,
                product,
                score(product, case.reference, scale=16, metrics=metrics),
                method=f"Method(name={name!r})",
                seconds=1.5,
                command=[
                    "geofuse",
                    "fuse",
                    name,
                    "--at",
                    f"{name} b.tif",
                    "2023-07-07",
                ],
                trivial=number > 0,
            )
        )
    return results


def written(case, results, **more):
    pair = case.inputs.pairs[0]
    inputs = {"fine": pair.fine, "coarse": case.inputs.coarse}
    more = {"title": "a scene", **more}
    return page(results, inputs=inputs, reference=case.reference, **more)


def test_the_page_is_whole_and_loads_nothing(case):
    text = written(case, made(case))
    found = Page(text)
    assert found.open == []
    for tag, attributes in found.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert "style" not in attributes
    assert not re.search(r"https?:|//[a-z]|@import|url\(", _without_pictures(text))


def _without_pictures(text):
    text = re.sub(r"data:image/png;base64,[\w+/=]*", "", text)
    return re.sub(r"^\s*// .*$", "", text, flags=re.MULTILINE)


def test_the_policy_allows_only_the_script_and_the_style_of_the_page(case):
    found = Page(written(case, made(case)))
    (policy,) = [meta["content"] for meta in found.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        digest = hashlib.sha256("".join(found.texts[tag]).encode()).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_page_has_a_picture_of_each_image_and_each_error(case):
    found = Page(written(case, made(case)))
    pictures = [image for image in found.all("img") if "src" in image]
    assert [picture["alt"] for picture in pictures] == [
        *("fine", "coarse"),
        *("truth", "good", "bad"),
        *("error of good", "error of bad"),
    ]
    for picture in pictures:
        assert picture["src"].startswith("data:image/png;base64,")
        assert base64.b64decode(picture["src"].split(",")[1]).startswith(b"\x89PNG")


def test_hostile_names_stay_text(case):
    results = made(case, names=(HOSTILE, QUOTED))
    names = {"band": [HOSTILE, QUOTED, "nir"]}
    reference = case.reference.assign_coords(names)
    results = [
        Result(
            one.name,
            one.product.assign_coords(names),
            score(one.product.assign_coords(names), reference),
            method=one.name,
            command=one.command,
        )
        for one in results
    ]
    fine = case.inputs.pairs[0].fine.assign_coords(names)
    text = page(
        results,
        inputs={HOSTILE: fine, QUOTED: fine},
        reference=reference,
        title=HOSTILE,
        about=[QUOTED],
        unit=HOSTILE,
    )
    found = Page(text)
    assert len(found.all("script")) == 1
    assert "alert(1)" not in "".join(found.texts["script"])
    assert all(
        image.get("src", "data:").startswith("data:") for image in found.all("img")
    )
    assert not [
        a for _, attributes in found.elements for a in attributes if a[:2] == "on"
    ]
    assert HOSTILE in "".join(found.texts["h1"])
    assert found.open == []


def test_a_command_can_be_pasted_into_a_shell(case):
    found = Page(written(case, made(case, names=("good one", "$(bad)"))))
    commands = [text for text in found.texts["code"] if text.startswith("geofuse")]
    for command, name in zip(commands, ("good one", "$(bad)"), strict=True):
        shell = f"geofuse() {{ printf '%s\\n' \"$@\"; }}; {command}"
        words = subprocess.check_output(["bash", "-c", shell], text=True).splitlines()
        assert words == ["fuse", name, "--at", f"{name} b.tif", "2023-07-07"]


def test_the_best_of_a_column_is_marked(case):
    text = written(case, made(case))
    rows = re.findall(r'<tr><th scope="row" data-value="(\w+)">.*?</tr>', text)
    lines = [line for line in text.splitlines() if line.startswith("<tr><th scope")]
    assert rows[:2] == ["good", "bad"]
    assert lines[0].count("best") > lines[1].count("best")
    # rmse, mae and r are best where there is least noise
    assert lines[0].count("best") >= 3


def test_a_product_without_a_valid_pixel_has_its_place(case):
    results = made(case)
    empty = results[0].product * np.nan
    nothing = Result("nothing", empty, score(empty, case.reference, scale=16))
    text = written(case, [*results, nothing])
    assert "error of nothing" in text
    assert "n/a" in text
    alone = written(case, [nothing])
    assert "Nothing could be scored" in alone


def test_a_long_list_of_methods_gets_smaller_pictures():
    case = simulate_case(330, seed=2)
    names = [f"m{number}" for number in range(9)]
    text = written(case, made(case, names, [0.01] * 9, ["rmse"]))
    widths = {int(image["width"]) for image in Page(text).all("img") if "src" in image}
    assert max(widths) <= 320
    assert len(text) < 10e6


def test_results_need_names_of_their_own(case):
    with pytest.raises(ParameterError, match="its own name"):
        written(case, made(case, names=("same", "same")))
    with pytest.raises(ParameterError, match="one or more results"):
        written(case, [])


def test_a_product_on_another_grid_is_refused(case):
    one = made(case)[0]
    moved = one.product.assign_coords(x=one.product["x"] + 30)
    with pytest.raises(GridMismatchError, match="one grid"):
        written(case, [Result("moved", moved, one.scores)])


def test_the_verdict_names_the_best_and_the_best_trivial_line():
    words = verdict(
        [
            result("line", trivial=True, red=0.05, nir=0.05),
            result("new", red=0.03, nir=0.05),
            result("worse line", trivial=True, red=0.08, nir=0.08),
        ],
        pixels=100,
    )
    assert words[0].startswith("new comes nearest to the truth, with an RMSE of 0.0400")
    assert "20 % less than the best trivial line, line, with 0.0500" in words[0]
    assert "line 0.0500, worse line 0.0800" in " ".join(words)
    assert "90 of 100 pixels (90 %)" in words[-1]


def test_the_verdict_admits_that_a_trivial_line_won():
    words = verdict(
        [result("line", trivial=True, red=0.04), result("new", red=0.05)], pixels=90
    )
    assert words[0].startswith("No method beats the trivial lines here: line")
    assert "new, has 0.0500, 25 % more" in words[0]


def test_the_verdict_says_which_bands():
    def second(**new):
        old = {"red": 0.05, "nir": 0.05, "swir1": 0.05}
        return verdict([result("old", **old), result("new", **new)], pixels=90)[1]

    assert second(red=0.01, nir=0.01, swir1=0.01) == (
        "It is the best in each band: red, nir and swir1."
    )
    assert second(red=0.01, nir=0.06, swir1=0.06) == (
        "It is the best in red; better is old in nir and swir1 "
        "(0.0500 against 0.0600, 0.0500 against 0.0600)."
    )


def test_perfect_and_missing_scores_make_sense_in_words():
    perfect = result("line", trivial=True, red=0.0)
    words = verdict([perfect, result("new", red=0.1)], pixels=90)
    assert words[0].startswith("line, a trivial line, comes nearest")
    assert "inf" not in " ".join(words)
    assert verdict([result("new", red=np.nan)], pixels=90) == [
        "Nothing could be scored: no pixel is valid in all products."
    ]


def _browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        # A snap does not see the folder of the test.
        if found and "snap" not in str(Path(found).resolve()):
            return found
    return None


@pytest.mark.skipif(_browser() is None, reason="no Chromium here")
def test_a_browser_runs_the_page(case, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(written(case, made(case, names=("good", HOSTILE))))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    options += [
        "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    done = subprocess.run(
        [_browser(), *options, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = Page(done.stdout)
    (box,) = [one for one in found.all("div") if "compare" in one.get("class", "")]
    assert "hidden" not in box  # the script ran
    assert len(found.all("option")) == 2 * 7
    (upper,) = [one for one in found.all("img") if "upper" in one.get("class", "")]
    assert upper["src"].startswith("data:image/png")
    assert "clip-path" in upper["style"]
