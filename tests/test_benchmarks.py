"""The table that the benchmarks write into the README; nothing is timed here."""

import pytest

from benchmarks.report import README, Row, markdown, replace_in_readme

FAST = Row(
    name="image", unit="ms", ours={"numpy": 20.0, "numba": 4.0}, theirs=50.0, floor=6.25, mlx=(70.0, 0.0125),
    targets={"numpy": 1.9, "numba": 4.0},
)  # fmt: skip
COLD = Row(name="cold process", unit="s", ours={"numpy": 1.2}, theirs=4.2, targets={"numpy": 4.0})


def test_a_table_holds_values_ratios_and_versions():
    lines = markdown([FAST, COLD], runs=15, mlx_version="0.7.10").splitlines()
    assert lines[2] == "| image | 20.0 ms | 4.00 ms | 50.0 ms | 2.5 | 12.5 | 6.25 ms | 70.0 ms (1.2%) |"
    assert lines[3] == "| cold process | 1.20 s | – | 4.20 s | 3.5 | – | – | – |"
    note = " ".join(lines[5:])
    assert "numba 0." in note
    assert "mlx-vlm 0.7.10" in note
    assert "shortest of 15 interleaved runs" in note
    assert max(map(len, lines[4:])) <= 120


def test_a_ratio_below_its_target_is_a_miss():
    assert not FAST.missed
    assert COLD.missed


def test_the_table_replaces_the_last_one_and_nothing_else(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    before = copy.read_text(encoding="utf-8")
    for name in ("first", "second"):
        row = Row(name=name, unit="s", ours={}, theirs=1.0, targets={})
        replace_in_readme(markdown([row], runs=9, mlx_version=None), path=copy)
    after = copy.read_text(encoding="utf-8")
    assert "| second |" in after
    assert "| first |" not in after
    begin, end = "<!-- benchmarks", "<!-- /benchmarks -->"
    assert after.partition(begin)[0] == before.partition(begin)[0]
    assert after.partition(end)[2] == before.partition(end)[2]


def test_a_readme_without_a_place_is_refused(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no place for the table"):
        replace_in_readme("| table |", path=copy)
