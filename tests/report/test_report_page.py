"""The report's page: sound HTML, nothing from a network, and in Chromium what a person would see and do."""

import base64
import json
import re
import shutil
import subprocess
import tomllib
import zlib
from collections.abc import Sequence
from contextlib import suppress
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import made_up
from alexnet.claims.index import open_indexes
from alexnet.report import charts, write
from alexnet.report.page import COLUMNS
from tiny import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BAD = "<script>document.title = 'taken over'</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}
LONG = "a_name_that_nobody_has_thought_of_as_one_to_be_read_in_a_table_with_eight_columns_"
CLAIMS = {"lrn": "P 3.3", "relu": "P 3.1", "headline": "P 10", "untried": "P 4.2", LONG: "mine, after P 3.1"}
SIZES = (320, 390, 768, 1280)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs, claims = tmp_path_factory.mktemp("outputs"), tmp_path_factory.mktemp("claims")
    lrn = {"of": "without", "minus": "with", "paper": 1.4, "source": 1.37}
    compare: dict[str, Any] = {"lrn": [lrn, lrn | {"metric": "val/top5_error", "paper": 1.2}]}
    compare["relu"] = [
        {"of": "tanh", "minus": "relu", "kind": "ratio", "metric": "steps_to", "level": 25, "paper": 6}
    ]
    compare["headline"] = [{"of": "net", "kind": "value", "paper": 40.7}]
    compare["untried"] = [{"of": "off", "minus": "on", "says": f'"it" & {BAD}'}]
    compare[LONG] = [{"of": f"{LONG}of", "minus": f"{LONG}minus"}]
    variants = {
        LONG: [f"{LONG}minus", f"{LONG}of"],
        "lrn": ["with", "without"],
        "relu": ["relu", "tanh"],
        "headline": ["net"],
        "untried": ["on", "off"],
    }
    for name, section in CLAIMS.items():
        sentence = f"Made-up sentence {LONG * (name == LONG)} {BAD}"
        made_up.claim(claims, name, variants[name], compare[name], section=section, sentence=sentence)
    made_up.sweep(outputs, "lrn", "demo", {"with": [60.0, 61.0], "without": [61.0, 62.5]}, f"name={BAD}")
    made_up.sweep(outputs, "lrn", "paper", {"with": [40.0, 41.0, 43.5], "without": [44.0, 45.5, 46.0]})
    made_up.sweep(outputs, "relu", "paper", {"relu": [30.0, 32.0], "tanh": [45.0, 46.0]}, epochs=8)
    made_up.sweep(outputs, "headline", "paper", {"net": [40.5, 40.6, 40.8]}, images=1000)
    made_up.index(outputs, "untried", "paper", {"on": {}, "off": {"0": "0badf00d"}})
    for settings in ((), (f"model.{LONG}={LONG}",)):
        errors = {f"{LONG}minus": [40.0, 41.0], f"{LONG}of": [42.0, 43.5]}
        made_up.sweep(outputs, LONG, "paper", errors, *settings, epochs=1)
    return write(open_indexes(outputs, claims), outputs / "report").page


class _Reader(HTMLParser):
    """Follows which elements are open, and keeps attributes, texts and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


@pytest.fixture(scope="module")
def read(page: Path) -> _Reader:
    reader = _Reader()
    reader.feed(page.read_text("utf-8"))
    reader.close()
    assert not reader.open
    return reader


def test_ids_are_unique_and_links_lead_to_them(read: _Reader) -> None:
    ids = read.values("id", "aria-labelledby")
    assert len(set(read.values("id"))) == len(read.values("id"))
    assert {*read.values("aria-labelledby")} <= {*ids}
    links = read.values("href")
    trials = {"trial-lrn-demo1", f"trial-{LONG}-paper1"}
    assert {link.removeprefix("#") for link in links} == {f"claim-{name}" for name in CLAIMS} | trials
    assert {link.removeprefix("#") for link in links} <= {*ids}


def test_nothing_is_loaded_from_elsewhere(page: Path, read: _Reader) -> None:
    text = re.sub(r"data:image/svg\+xml;base64,[\w+/=]+", "", page.read_text("utf-8"))
    assert not re.search(r"https?:|//\w|url\(|@import|<link|<iframe|fetch\(|XMLHttp", text)
    sources = read.values("src", "srcset", "data", "poster", "background")
    assert len(sources) == 2 + 2 + 6  # the forests, errors by cost, and curves of each sweep that has runs
    assert all(each.startswith("data:image/svg+xml;base64,") for each in sources)
    for each in sources:
        root = ElementTree.fromstring(base64.b64decode(each.partition(",")[2]))
        used = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
        assert all(value.startswith("#") for value in used)


def test_names_and_sentences_are_escaped(page: Path, read: _Reader) -> None:
    text = page.read_text("utf-8")
    assert BAD not in text
    assert unescape(text).count(BAD) > len(CLAIMS)
    assert sum(tag == "script" for tag in re.findall(r"<(\w+)", text)) == 1


def test_each_row_has_a_cell_and_a_label_for_each_column(page: Path, read: _Reader) -> None:
    labels = read.values("data-label")
    assert labels == list(COLUMNS) * 9
    assert read.values("role").count("columnheader") == 2 * len(COLUMNS)


def test_trial_runs_are_folded_below_the_others_under_names_to_copy(page: Path) -> None:
    claims, fold, details = re.split(
        r"<details>\s*<summary|Claim by claim", page.read_text("utf-8"), maxsplit=2
    )
    assert "Trial runs with other settings (2)" in fold
    for name in ("lrn-demo1", f"{LONG}-paper1"):
        assert f"<code>{name}</code>" in fold
        assert name not in claims
    assert claims.count("<tr role=") == 1 + 6
    assert fold.count("<tr role=") == 1 + 3
    folded = re.findall(
        r"<details>\s*<summary>Trial runs with <code>(.*?)</code>.*?</details>", details, re.DOTALL
    )
    assert len(folded) == 2
    assert details.count("synthetic images, 67 px, 2 epochs, changed by") == 1 + 2  # heading, reasons
    assert "<details open" not in claims + fold


def test_verdict_scale_why_and_command_are_told_in_words(page: Path) -> None:
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page.read_text("utf-8"))).split())
    for words in (
        "synthetic images, 67 px, 2 epochs, changed by name=",
        "not the paper's scale",
        "synthetic images: this says nothing about the paper",
        "not measured",
        "ILSVRC-2012, 90 epochs",
        "python src/train.py claim=relu",
        "0 of 1 run finished, 1 missing",
        "The claim asks for: a ratio above 1.",
    ):
        assert words in text


@pytest.mark.parametrize("classes", [5, 6])
def test_the_top5_error_of_five_classes_is_a_dash(classes: int, tmp_path: Path) -> None:
    made_up.claim(tmp_path / "claims", "headline", ["net"], [{"of": "net", "kind": "value", "paper": 40.7}])
    made_up.sweep(tmp_path, "headline", "paper", {"net": [40.0, 44.0]}, num_classes=classes)
    text = write(open_indexes(tmp_path, tmp_path / "claims"), tmp_path / "report").page.read_text("utf-8")
    assert ("10.50 ± 0.71 (2)" in text) is (classes > 5)
    assert "21.00 ± 1.41 (2)" in text, "of training, top-1"


def test_the_templates_are_part_of_the_package() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = ROOT / "src" / "alexnet" / "report"
    kept = {path for pattern in named["alexnet.report"] for path in folder.glob(pattern)}
    assert kept == {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}


def _chromium(page: Path, *flags: str) -> str:
    """What Chromium prints as it opens a page."""
    call = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    call += [f"--user-data-dir={page.parent / 'profile'}", "--window-size=1400,1000", "--hide-scrollbars"]
    done = subprocess.run(
        [*call, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def _seen(page: Path, script: str, size: int = 1280, dark: bool = False, picture: Path | None = None) -> Any:
    """What a script finds as it runs in the page, in a frame as wide as given: Chromium's own windows
    are never narrower than 500 pixels. picture: is taken of what the script leaves behind.
    """
    frame = page.with_name(f"frame{size}.html")
    look = f"const page = frame.contentDocument, view = frame.contentWindow; {script}"
    frame.write_text(
        "<meta name=color-scheme content='light dark'><body style='margin:0'>"
        f"<iframe id=frame src={page.name} style='width:{size}px;height:900px;border:0'></iframe>"
        "<pre id=seen></pre>"
        f"<script>onload = () => {{ const find = () => {{ {look} }};"
        "seen.textContent = JSON.stringify(find()) }</script>"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    found = re.search(r"<pre id=\"seen\">(.*?)</pre>", _chromium(frame, scheme, "--dump-dom"), re.DOTALL)
    assert found
    if picture:
        _chromium(frame, scheme, f"--screenshot={picture}")
    return json.loads(unescape(found[1]))


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
SORT = """
const table = page.querySelector('.sortable');
const heads = [...table.querySelectorAll('th')], states = [];
const rows = () => [...table.querySelectorAll('tbody tr')];
const look = () => states.push({
  cells: rows().map((row) => [...row.cells].map((cell) => cell.dataset.sort)),
  sorted: heads.map((head) => head.getAttribute('aria-sort')),
});
look();
heads.forEach((head) => [0, 1].forEach(() => { head.querySelector('button').click(); look(); }));
return states;
"""


def _ascending(cells: Sequence[str]) -> bool:
    """Numbers as numbers, words as words, and nothing last."""
    filled = [cell for cell in cells if cell]
    try:
        keys: list[Any] = [float(cell) for cell in filled]
    except ValueError:
        keys = filled
    return all(a <= b for a, b in pairwise(keys)) and not any(cells[len(filled) :])


@needs_chromium
def test_a_click_sorts_and_another_turns_it_round(page: Path) -> None:
    start, *states = _seen(page, SORT)
    assert start["sorted"] == [None] * len(COLUMNS)
    assert any(not _ascending([row[column] for row in start["cells"]]) for column in range(len(COLUMNS)))
    for number, state in enumerate(states):
        column, down = divmod(number, 2)
        cells = [row[column] for row in state["cells"]]
        filled = [cell for cell in cells if cell]
        assert sorted(state["cells"]) == sorted(start["cells"])
        assert _ascending([*filled[::-1], *cells[len(filled) :]] if down else cells), (COLUMNS[column], cells)
        told = [None] * len(COLUMNS)
        told[column] = "descending" if down else "ascending"  # type: ignore[call-overload]
        assert state["sorted"] == told


OPEN = "page.querySelectorAll('details:not([open]) > summary').forEach((each) => each.click());"
LINK = """
const link = page.querySelector('a[href^="#trial-"]'), target = page.querySelector(link.hash);
const unfolded = [target.closest('details').open];
link.click();
unfolded.push(target.closest('details').open);
"""
KEYS = """
const able = [...page.querySelectorAll('a[href], button, summary, [tabindex]')].filter(
  (each) => each.tabIndex >= 0);
const missed = able.filter((each) => { each.focus(); return page.activeElement !== each; });
const blank = [...page.images].filter((each) => each.naturalWidth < 100);
return { buttons: page.querySelectorAll('th button').length, able: able.length, missed: missed.length,
         title: page.title, blank: blank.length, unfolded };
"""


@needs_chromium
def test_keys_reach_all_that_a_mouse_does_and_figures_show(page: Path) -> None:
    found = _seen(page, LINK + OPEN + KEYS)
    assert found["buttons"] == 2 * len(COLUMNS)
    assert found["able"] > found["buttons"]
    assert found["missed"] == found["blank"] == 0
    assert found["unfolded"] == [False, True]
    assert found["title"] == "AlexNet, its claims rerun"


WIDE = """
const style = (each) => view.getComputedStyle(each);
const scrolls = (each) => ['auto', 'scroll'].includes(style(each).overflowX);
const inside = (each) => each && (scrolls(each) || inside(each.parentElement));
const all = [...page.body.querySelectorAll('*')], right = page.documentElement.clientWidth;
const out = all.filter((each) => each.getBoundingClientRect().right > right + 1 && !inside(each));
const wider = all.filter((each) => each.clientWidth && each.scrollWidth > each.clientWidth + 1);
const cuts = (each) => each.closest('td, th') || style(each).overflowX !== 'visible';
const cut = wider.filter((each) => !scrolls(each) && cuts(each));
const cued = (each) => ['local', 'scroll'].every((kind) => style(each).backgroundAttachment.includes(kind));
const uncued = wider.filter((each) => scrolls(each) && !cued(each));
return { page: page.documentElement.scrollWidth, view: view.innerWidth,
         out: [...out, ...cut, ...uncued].map((each) => each.outerHTML),
         scrolling: wider.filter(scrolls).map((each) => each.className || each.localName) };
"""


@needs_chromium
@pytest.mark.parametrize("size", SIZES)
def test_the_page_never_scrolls_sideways_and_what_does_has_a_cue(page: Path, size: int) -> None:
    found = _seen(page, OPEN + WIDE, size)
    assert (found["view"], found["out"]) == (size, [])
    assert found["page"] <= size
    assert ("card chart" in found["scrolling"]) == (size < 600)
    assert ("scroll wide" in found["scrolling"]) == (size == 768), "cards below that, and room enough above"


LOOK = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => linear(v / 255)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const back = (each) => { for (let up = each; up; up = up.parentElement) {
  const found = parse(view.getComputedStyle(up).backgroundColor); if (found.length < 4) return found; } };
const words = [...page.querySelectorAll(
  'h1, p, small, a, th, td, .verdict, button, code, figcaption, summary, abbr')];
const ratios = words.map((each) => {
  const pair = [parse(view.getComputedStyle(each).color), back(each)].map(light);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05); });
const chart = page.querySelector('.chart');
chart.scrollIntoView();
const { left, top, right, bottom } = chart.getBoundingClientRect();
return { least: Math.min(...ratios), page: back(page.body), box: [left, top, right, Math.min(bottom, 900)] };
"""


def _contrast(one: Any, other: Any) -> float:
    """Of two pixels, as WCAG 2.2 has it."""
    rgb = np.array([one, other]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return float(high / low)


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_words_and_charts_stand_out_from_what_is_behind_them_light_and_dark(page: Path, dark: bool) -> None:
    picture = page.with_name(f"{dark}.png")
    found = _seen(page, OPEN + LOOK, 390, dark, picture)
    assert found["least"] >= 4.5  # WCAG 2.2, 1.4.3
    assert (sum(found["page"]) < 100) == dark
    assert (sum(found["page"]) > 700) != dark
    left, top, right, bottom = map(round, found["box"])
    with Image.open(picture) as image:
        chart = np.asarray(image.convert("RGB"))[top + 2 : bottom - 2, left + 1 : right - 1]
    middle = chart[:, 40:-40].reshape(-1, 3)
    colours, counts = np.unique(middle, axis=0, return_counts=True)
    paper = colours[counts.argmax()]
    assert paper.tolist() == found["page"]
    names = chart[:, 20:120].reshape(-1, 3)  # of rows, left of the forest's axis
    assert max(_contrast(pixel, paper) for pixel in np.unique(names, axis=0)) >= 4.5
    edges = [np.median(chart[:, column], axis=0) for column in (0, -1)]
    assert edges[0].tolist() == paper.tolist(), "no more is at the left"
    assert _contrast(edges[1], paper) > 1.3, "a shadow says that there is more"


@needs_chromium
def test_print_is_light_whatever_the_screen_is(page: Path) -> None:
    printed = page.with_name("page.pdf")
    _chromium(page, "--blink-settings=preferredColorScheme=0", f"--print-to-pdf={printed}")
    drawn = b""
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", printed.read_bytes(), re.DOTALL):
        with suppress(zlib.error):  # a font, say
            drawn += zlib.decompress(stream)
    fills = {tuple(map(float, each.split())) for each in re.findall(rb"([\d. ]+) rg\b", drawn)}
    assert len(fills) > 5
    dark = [int(charts.DARK["#ffffff"][at : at + 2], 16) / 255 for at in (1, 3, 5)]
    assert min(max(np.abs(np.subtract(fill, dark))) for fill in fills) > 0.03
