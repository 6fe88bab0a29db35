"""Reports: what they say, that they say it of hostile names too, and that their pictures show what differs."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gemma4_mm.conformance.compare import Outcome, compare_case
from gemma4_mm.conformance.records import Case, Crop, ParityReport
from gemma4_mm.conformance.report import write_report
from gemma4_mm.conformance.report.pictures import draw_crop, place
from gemma4_mm.conformance.report.words import add_distances, group_cases, verdict
from gemma4_mm.core.attention.kinds import KIND_COLOURS
from gemma4_mm.core.attention.masks import build_masks
from gemma4_mm.errors import InputError
from tests.conformance.reports import HOSTILE, failing_report, mask_crop, passing_report, pixel_crop


class Page(HTMLParser):
    """Elements, their nesting checked, and the text that is shown."""

    EMPTY = ("meta", "link", "img")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def written(report, path):
    write_report(report, path)
    return path.read_text(encoding="utf-8")


def decoded(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int)


def test_verdicts_are_sentences():
    assert verdict(passing_report()) == "15 cases, 105 stages: every value equal"
    assert verdict(passing_report(partial=True)) == (
        "16 cases, 110 stages: every value equal; 1 stage left out by the subject"
    )
    assert verdict(failing_report()) == "4 of 19 cases differ, in 5 of 123 stages"
    first = failing_report().results[:6]
    assert verdict(replace(failing_report(), results=first)) == "1 of 1 case differs, in 2 of 6 stages"
    assert verdict(replace(passing_report(), results=())) == "Nothing was compared"
    asked = replace(passing_report(partial=True), partial=False)
    assert verdict(asked) == "1 of 16 cases differs, in 1 of 111 stages"
    left_out = replace(passing_report(partial=True), results=passing_report(partial=True).results[-6:-5])
    assert verdict(left_out) == "Nothing was compared: the subject left every stage out"


def test_distances_are_added_over_cases():
    distances = {(stage.kind, stage.stage): stage.counts for stage in add_distances(failing_report())}
    assert list(distances["image", "patches"].items()) == [("9-16", 2), ("nan", 5)]
    assert distances["image", "resized_rgb"] == {"1": 1800, "2": 30, "3-4": 4}
    twice = replace(failing_report(), results=failing_report().results * 2)
    assert {stage.stage: stage.counts for stage in add_distances(twice)}["patches"] == {"9-16": 4, "nan": 10}
    assert add_distances(passing_report()) == ()


def test_what_a_partial_subject_leaves_out_is_no_failure():
    (case,) = [case for case in group_cases(passing_report(partial=True)) if case.name == "image-9"]
    assert case.failures == ()
    (case,) = [
        case for case in group_cases(replace(passing_report(partial=True), partial=False)) if case.name == "image-9"
    ]
    assert [result.stage for result in case.failures] == ["source_rgb"]


@pytest.mark.parametrize("make", [passing_report, failing_report])
def test_the_page_stands_alone(make, tmp_path):
    page = Page(written(make(), tmp_path / "report.html"))
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "base", "form")
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == 1
    assert tags.count("table") == tags.count("caption")
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert ("html", {"lang": "en"}) in page.elements


def test_the_page_says_what_differs_in_words(tmp_path):
    text = Page(written(failing_report(), tmp_path / "report.html")).text
    for words in (
        "4 of 19 cases differ, in 5 of 123 stages",
        "case exif-6, stage resized_rgb, pixel (row 12, column 40) channel G: 131, expected 130: this looks like",
        "1 × Pillow's bicubic 3 × no known mistake",
        "pillow-bicubic Pillow's bicubic: it gives 97 % of the different values",
        "resized_rgb , rows 64 to 95, columns 0 to 39 of frame 2",
        "resized_rgb 4 3 1 769,080 1,834 0.238 % transformers",
        "How far off",
        "1 1,800 2 30 3-4 4",
        "case tiny: the subject refuses it, the reference does not",
        "cpu capability AVX512",
        "EXIF <orientation> is ignored",
        "the strips show their kinds: text image video audio padding",
    ):
        assert words in text, words


def test_a_passing_page_is_as_plain(tmp_path):
    text = Page(written(passing_report(), tmp_path / "report.html")).text
    assert "✓ 15 cases, 105 stages: every value equal 105,000 values, compared bit by bit." in text
    assert "15, 6 of them random, seed 7" in text
    assert "What differs" not in text
    assert "How far off" not in text


def test_names_are_shown_as_they_are(tmp_path):
    page = Page(written(failing_report(), tmp_path / "report.html"))
    assert HOSTILE in page.text
    assert "port_<i>one</i>:run" in page.text
    assert "expected (2, 640) & <b>more</b>" in page.text
    assert "i" not in [tag for tag, _ in page.elements]
    assert "u" not in [tag for tag, _ in page.elements]


def test_many_differences_are_folded_and_no_picture_is_lost_from_the_first(tmp_path):
    first = failing_report().results[:6]
    many = [replace(result, case=f"case-{i}") for i in range(150) for result in first]
    page = Page(written(replace(failing_report(), results=tuple(many)), tmp_path / "report.html"))
    cases = [attributes for tag, attributes in page.elements if tag == "details" and attributes["class"] == "case"]
    assert len(cases) == 150
    assert [("open" in attributes) for attributes in cases] == [True] * 3 + [False] * 147
    assert sum(tag == "img" for tag, _ in page.elements) == 3 * 120
    assert "The first 120 are drawn" in page.text
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_markdown_is_a_table_and_folds(tmp_path):
    text = written(failing_report(), tmp_path / "report.md")
    assert text.startswith("### ❌ 4 of 19 cases differ, in 5 of 123 stages\n")
    assert "**First difference:** case exif-6, stage resized\\_rgb, pixel (row 12, column 40) channel G: 131" in text
    assert "\n- 1 × Pillow's bicubic\n- 3 × no known mistake\n\n| kind |" in text
    assert "| image | 7 | 25 | 3 | 1,842 of 1,554,161 |" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert HOSTILE not in text
    lines = text.splitlines()
    table = [
        line for line in lines[lines.index("<details><summary>4 cases differ</summary>") :] if line.startswith("|")
    ]
    assert len(table) == 2 + 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}  # a bar in a name makes no column


def test_markdown_of_a_passing_run_is_short(tmp_path):
    text = written(passing_report(), tmp_path / "report.md")
    assert text.startswith("### ✅ 15 cases, 105 stages: every value equal\n")
    assert "6 random cases, seed 7" in text
    assert text.count("<details>") == 1
    assert len(text.splitlines()) < 25


def test_markdown_stays_below_what_a_comment_may_hold(tmp_path):
    many = [replace(failing_report().results[2], case=f"case-{i}" + "x" * 80) for i in range(5000)]
    text = written(replace(failing_report(), results=tuple(many)), tmp_path / "report.md")
    assert "…and 4,970 more." in text
    assert len(text) < 65_536


def test_json_is_read_back(tmp_path):
    text = written(failing_report(), tmp_path / "report.json")
    assert text.endswith("}\n")
    assert ParityReport.from_json(text).to_json() == failing_report().to_json()
    assert json.loads(text)["subject"] == "port_<i>one</i>:run"


def test_the_suffix_names_the_format(tmp_path):
    with pytest.raises(InputError, match=r"report\.txt ends in '\.txt'; a report ends in \.html, \.md, \.json"):
        write_report(passing_report(), tmp_path / "report.txt")
    with pytest.raises(InputError, match="ends in 'no suffix'"):
        write_report(passing_report(), tmp_path / "report")
    with pytest.raises(InputError, match=r"nowhere is no directory; choose a writable path"):
        write_report(passing_report(), tmp_path / "nowhere" / "report.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*choose a writable path"):
        write_report(passing_report(), tmp_path / "folder.html")
    write_report(passing_report(), tmp_path / "REPORT.HTML")


# Pictures


def test_pixels_are_shown_as_they_are_and_their_distance_amplified():
    crop = pixel_crop()
    expected, actual, difference = draw_crop(crop)
    assert np.array_equal(decoded(expected), crop.expected)
    assert np.array_equal(decoded(actual), crop.actual)
    distance = np.abs(crop.expected.astype(int) - crop.actual)
    assert np.array_equal(decoded(difference).max(axis=2), distance.max(axis=2) * 127)
    assert np.array_equal(decoded(difference).argmax(axis=2), distance.argmax(axis=2))  # the channel has the colour
    assert set(np.unique(decoded(difference))) == {0, 63, 127, 254}  # white is added where anything differs
    assert difference.title == "difference ×127"
    assert difference.description == "Distances amplified 127 times: 7 of 1280 pixels differ, by at most 2"
    assert (expected.width_px, expected.height_px) == (40 * 7, 32 * 7)
    assert place(crop) == "rows 64 to 95, columns 0 to 39 of frame 2"


def test_a_difference_below_one_level_is_said_so():
    crop = replace(pixel_crop(), actual=pixel_crop().expected)
    assert draw_crop(crop)[2].title == "difference: below one level"
    assert not decoded(draw_crop(crop)[2]).any()


def test_cells_of_masks_are_told_apart():
    crop = replace(mask_crop(), kinds=None)
    expected, actual, difference = (decoded(picture) for picture in draw_crop(crop))
    side = len(crop.expected)
    cell_px = len(expected) // side
    corner = 1  # of each cell: below it the line, above it the mark
    assert cell_px == 11
    blue, white, gray, red, orange = (33, 113, 181), (255, 255, 255), (186, 200, 214), (200, 30, 45), (230, 112, 20)
    for q in range(side):
        for k in range(side):
            wanted, came = crop.expected[q, k], crop.actual[q, k]
            at = (q * cell_px + corner, k * cell_px + corner)
            assert tuple(expected[at]) == (blue if wanted else white)
            assert tuple(actual[at]) == (blue if came else white)
            assert tuple(difference[at]) == {(0, 0): white, (1, 1): gray, (0, 1): red, (1, 0): orange}[wanted, came]
            inner = difference[q * cell_px + 2 : (q + 1) * cell_px - 1, k * cell_px + 2 : (k + 1) * cell_px - 1]
            marked = (inner == 255).all(axis=2).sum() if wanted or came else 0
            assert marked == {(0, 1): 16, (1, 0): 8}.get((wanted, came), 0)  # a cross, a bar
    leaked, missed = ((crop.actual != 0) & (crop.expected == 0)).sum(), 1
    assert (
        f"{leaked} cells are attended to and must not be (red, ×), {missed} are not" in draw_crop(crop)[2].description
    )


def test_keys_have_the_colours_of_their_kinds():
    crop = mask_crop()
    plain = [decoded(picture) for picture in draw_crop(replace(crop, kinds=None))]
    framed = [decoded(picture) for picture in draw_crop(crop)]
    side, cell_px, edge_px, margin_px = len(crop.expected), 11, 6, 9
    colours = KIND_COLOURS[crop.kinds[0]].astype(int)
    for before, after in zip(plain, framed, strict=True):
        assert np.array_equal(after[margin_px::cell_px][:side, :edge_px], colours[:, None].repeat(edge_px, axis=1))
        assert np.array_equal(after[:edge_px, margin_px::cell_px][:, :side], colours[None].repeat(edge_px, axis=0))
        assert (after[edge_px:margin_px] == 255).all()
        assert (after[:margin_px, :margin_px] == 255).all()
        seen = (before == (33, 113, 181)).all(axis=2)
        assert np.array_equal(after[margin_px:, margin_px:][~seen], before[~seen])
        keys = np.arange(before.shape[1])[None].repeat(len(before), axis=0) // cell_px
        assert np.array_equal(after[margin_px:, margin_px:][seen], colours[keys[seen]])


def test_the_crop_of_a_comparison_knows_the_kinds_of_its_own_tokens():
    types = np.repeat(np.array([[0, 1, 0, 3, 2, 0]], np.int32), [100, 60, 40, 30, 20, 50], axis=1)
    attention = (np.arange(300) < 290).astype(np.int32)[None]
    masks = build_masks(types, attention_mask=attention, sliding_window=50)
    expected = masks.mask_sliding[:, 0].astype(np.uint8)
    actual = expected.copy()
    actual[0, 215, 190] = 0
    case = Case(
        name="long",
        kind="masks",
        inputs={"token_types": types, "attention_mask": attention},
        options={"sliding_window": 50, "max_chunk": 99},
        summary="",
    )
    results = compare_case(
        case,
        Outcome(stages={"mask_sliding_forward": expected}),
        Outcome(stages={"mask_sliding_forward": actual}),
    )
    crop = results[0].difference.crop
    top, left = crop.origin
    assert 0 < top <= 215
    assert 0 < left <= 190
    kinds = np.where(attention[0] == 0, 4, types[0])
    queries, keys = crop.kinds
    assert np.array_equal(queries, kinds[top : top + len(crop.expected)])
    assert np.array_equal(keys, kinds[left : left + crop.expected.shape[1]])
    assert {0, 2, 3, 4} <= set(queries.tolist())


@pytest.mark.parametrize("shape", [(1, 1), (3, 128), (128, 128), (300, 2)])
def test_masks_of_every_shape_are_drawn(shape):
    crop = Crop(expected=np.zeros(shape, np.uint8), actual=np.ones(shape, np.uint8), origin=(5, 9))
    for picture in draw_crop(crop):
        assert max(picture.width_px, picture.height_px) <= 300
        height_px, width_px, _ = decoded(picture).shape
        assert picture.width_px % width_px == picture.height_px % height_px == 0
