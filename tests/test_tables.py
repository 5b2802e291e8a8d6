"""Tables, numbers and titles as they are shown and as they are read again."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from alexnet import tables
from alexnet.files import save_figure


def test_markdown_has_a_head_a_line_and_the_rows() -> None:
    assert tables.markdown([("a", 1)], ("name", "n")) == "| name | n |\n|---|---|\n| a | 1 |"
    assert tables.markdown([], ("name",)) == "| name |\n|---|"
    assert tables.markdown([("a|b *c*\nd",)], ("n",), escape=True).endswith("| a\\|b \\*c\\* d |")


def test_columns_are_below_each_other() -> None:
    rows = [("row", "n"), ("longer", 12), ("b", "")]
    assert tables.aligned(rows).splitlines() == ["row     n", "longer  12", "b"]
    assert tables.aligned(rows, right=(1,), indent="  ").splitlines() == [
        "  row      n",
        "  longer  12",
        "  b",
    ]


@pytest.mark.parametrize(
    ("value", "settings", "text"),
    [
        (1.005, {}, "1.00"),
        (-0.31, {"places": 1}, f"{tables.MINUS}0.3"),
        (-0.001, {}, "0.00"),
        (12345.6, {}, "12,346"),
        (None, {}, tables.NONE),
        (math.nan, {}, tables.NONE),
        (math.inf, {}, tables.NONE),
        (0.012345, {"digits": 3}, "0.0123"),
        (123.45, {"digits": 3}, "123"),
        (1234.5, {"digits": 3}, "1,234"),
    ],
)
def test_numbers(value: float | None, settings: dict[str, Any], text: str) -> None:
    assert tables.number(value, **settings) == text


@pytest.mark.parametrize(
    ("values", "settings", "text"),
    [
        ([1.0, 2.0, 3.0], {}, "2.0 ± 1.0"),
        ([1.0, 2.0, 3.0], {"places": 2, "n": True}, "2.00 ± 1.00 (3)"),
        ([41.23], {}, "41.2"),
        ([], {}, "none"),
        ([], {"none": tables.NONE}, tables.NONE),
    ],
)
def test_mean_and_standard_deviation(values: list[float], settings: dict[str, Any], text: str) -> None:
    assert tables.mean_std(values, **settings) == text


def test_a_spread_of_known_mean() -> None:
    assert tables.spread(41.234, 0.311, 5) == "41.23 ± 0.31 (5)"
    assert tables.spread(None, None, 5) == tables.NONE


def test_words_are_cut_where_it_is_said() -> None:
    assert tables.shorten("crane, a bird", 7) == "crane…"
    assert tables.shorten("crane", 5) == "crane"
    assert tables.shorten("/folder/name.jpg", 9, "front") == "…name.jpg"
    assert tables.shorten("abcdefghij", 7, "middle") == "abc…hij"


def test_titles_are_short_where_they_stay_apart() -> None:
    assert tables.short_titles(["tench, Tinca tinca (n01440764)", "crane (bird)"]) == ["tench", "crane"]
    assert tables.short_titles(["crane (n1)", "crane (n2)", "ant (n3)"]) == [
        "crane (n1)",
        "crane (n2)",
        "ant",
    ]
    assert tables.short_titles(["a long, long title (n6)"], first_name=False) == ["a long, long title"]
    assert tables.short_titles(["a very long name of a class"], 17) == ["a very long name…"]
    assert all(len(title) <= 24 for title in tables.short_titles(["x" * 50, "y"], 24, cut="middle"))


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"step": 0, "layer": "0", "loss": 0.123456}, {"step": 1, "layer": "fc, 7", "more": 1e-20}]
    path = tmp_path / "new" / "table.csv"
    tables.write_csv(rows, path, digits=4)
    head, first, second = path.read_text().splitlines()
    assert (head, first, second) == ("step,layer,loss,more", "0,0,0.1235,", '1,"fc, 7",,1e-20')
    assert tables.read_csv(path, text=("layer",)) == [
        {"step": 0, "layer": "0", "loss": 0.1235, "more": None},
        {"step": 1, "layer": "fc, 7", "loss": None, "more": 1e-20},
    ]
    assert tables.read_csv(path, numbers=False)[0]["loss"] == "0.1235"
    assert tables.read_csv(tmp_path / "none.csv") == []


def test_rows_without_names_and_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    tables.write_csv([("a\udcff", 1.25)], path, head=("name", "value"))
    assert path.read_bytes() == b"name,value\na\\udcff,1.25\n"
    tables.write_csv([("a\udcff", 1)], path, head=("name", "value"), errors="surrogateescape")
    assert path.read_bytes() == b"name,value\na\xff,1\n"


def test_figures_and_pictures_are_saved_whole(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle("\N{CJK UNIFIED IDEOGRAPH-4E00}")  # which the font lacks
    for name, drawn in (("figure.png", figure), ("picture.png", Image.new("RGB", (2, 2)))):
        save_figure(drawn, tmp_path / "new" / name)
        with Image.open(tmp_path / "new" / name) as picture:
            assert picture.format == "PNG"
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_no_slow_library_is_imported() -> None:
    program = "import sys, alexnet.tables; print({'torch', 'pandas', 'numpy', 'matplotlib'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
