"""The page in headless Chromium: what a reader sees, that every picture decodes, and that nothing is fetched."""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from PIL import Image

from gemma4_mm.conformance.report import write_report
from tests.conformance.browser import PROGRAM, Browser
from tests.conformance.reports import HOSTILE, failing_report, passing_report

VISIBLE_TEXT = "document.body.innerText"
DECODED = "Promise.all([...document.images].map(image => image.decode().then(() => true, () => false)))"
PICTURES = (
    "[...document.images].map(image => [image.complete, image.naturalWidth, image.alt, image.width, image.height])"
)
TABLES = "[...document.querySelectorAll('table')].map(table => table.caption.textContent)"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser():
    if PROGRAM is None:
        reason = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(f"the report must be seen in a browser in CI: {reason}")
        pytest.skip(reason)
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_report(passing_report(), folder / "passing.html")
    write_report(failing_report(), folder / "failing.html")
    return folder


@pytest.mark.parametrize("name", ["passing", "failing"])
def test_the_page_asks_for_nothing_and_complains_of_nothing(browser, pages, name):
    for width_px, scheme in product((1200, 390), ("light", "dark")):
        browser.open(pages / f"{name}.html", width_px=width_px, scheme=scheme)
        external = [url for url in browser.requests if not url.startswith("data:")]
        assert external == [(pages / f"{name}.html").as_uri()]
        assert browser.complaints == []
        assert browser.evaluate(OVERFLOW) == 0  # wide tables scroll, the page does not


def test_a_failing_page_shows_verdict_tables_and_pictures(browser, pages):
    browser.open(pages / "failing.html")
    text = browser.evaluate(VISIBLE_TEXT)
    assert "4 of 19 cases differ, in 5 of 123 stages" in text
    assert "pixel (row 12, column 40) channel G: 131, expected 130" in text
    assert "difference ×127" in text
    assert f"case {HOSTILE}, stage frames has shape" in text
    assert "case window, stage mask_sliding_forward" not in text  # folded: the fourth case
    browser.evaluate("document.querySelectorAll('.case summary')[3].click()")
    assert "case window, stage mask_sliding_forward" in browser.evaluate(VISIBLE_TEXT)
    captions = browser.evaluate(TABLES)
    assert "Stages of all cases, by kind" in captions
    assert "Stages of exif-6" in captions
    assert "All masks cases by stage" in captions
    pictures = browser.evaluate(PICTURES)
    assert len(pictures) == 6
    assert browser.evaluate(DECODED) == [True] * 6
    for complete, natural_width, alt, width, height in pictures:
        assert complete
        assert natural_width > 0
        assert alt
        assert width > 150 < height  # enlarged to where the eye sees it


def test_a_passing_page_shows_the_verdict_and_the_stages(browser, pages):
    browser.open(pages / "passing.html")
    text = browser.evaluate(VISIBLE_TEXT)
    assert "15 cases, 105 stages: every value equal" in text
    assert "mask_sliding_deepmind" in text
    assert browser.evaluate(PICTURES) == []


def test_folds_open_without_a_script(browser, pages):
    browser.open(pages / "passing.html")
    assert "image-2" not in browser.evaluate(VISIBLE_TEXT)
    browser.evaluate("document.querySelector('.matrix summary').click()")
    assert "image-2" in browser.evaluate(VISIBLE_TEXT)


def test_colours_follow_the_readers_scheme_and_stay_readable(browser, pages, tmp_path):
    grounds = {}
    for scheme in ("light", "dark"):
        browser.open(pages / "failing.html", scheme=scheme)
        browser.screenshot(tmp_path / f"{scheme}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"))
        grounds[scheme] = int(pixels[5, 5])
        assert pixels.shape[0] > 1000  # the whole page
        for selector in ("h1", ".lead", ".hint", "td", ".share", ".status.equal", ".status.different", ".suspects b"):
            assert browser.evaluate(CONTRAST.format(selector=selector)) >= 4.5, (scheme, selector)  # WCAG 2.2 AA
    assert grounds["light"] > 220 > 60 > grounds["dark"]


CONTRAST = """(() => {{
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let element = document.querySelector('{selector}'), ground = element;
  const ink = light(rgb(getComputedStyle(element).color));
  while (rgb(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const paper = light(rgb(getComputedStyle(ground).backgroundColor));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}})()"""


def test_a_browser_that_must_complain_does(browser, tmp_path):
    """The checks above can fail: a page that fetches, that logs, and whose picture is broken."""
    (tmp_path / "bad.html").write_text(
        "<!doctype html><img src='data:image/png;base64,AAAA' alt='x'><img src='http://127.0.0.1:9/x.png' alt='y'>"
        "<script>console.error('oh')</script>",
        encoding="utf-8",
    )
    browser.open(tmp_path / "bad.html")
    assert "http://127.0.0.1:9/x.png" in browser.requests
    assert any("oh" in complaint for complaint in browser.complaints)
    assert [natural_width for _, natural_width, *_ in browser.evaluate(PICTURES)] == [0, 0]
    assert browser.evaluate(DECODED) == [False, False]


@pytest.mark.parametrize("ci", [True, False])
def test_without_a_browser_ci_fails_and_others_are_told_why(ci):
    code = (
        "import shutil, sys; which = shutil.which; shutil.which = lambda name, *a, **k: None if name == 'chromium' else"
        " which(name, *a, **k)\nimport pytest; sys.exit(pytest.main([*sys.argv[1:]]))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    arguments = ["-p", "no:cacheprovider", "-q", "-rs", f"{__file__}::test_folds_open_without_a_script"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "apt-get install chromium" in result.stdout
    assert (result.returncode, ("1 skipped" in result.stdout)) == ((1, False) if ci else (0, True))
