"""What the READMEs tell people to type works, and what they say is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from alexnet.cli.app import of_all, of_libraries
from alexnet.models import from_config
from alexnet.report import publish
from tiny import DEMO, ROOT, TINY

PAGES = ("README.md", "conf/README.md", "results/README.md", "src/alexnet/README.md")
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
BLOCKS = [block for text in TEXTS.values() for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
OWN_ABLATION = "claim=elu"  # test_ablation.py does it in a copy
COMMANDS = sorted({line for line in LINES if line.startswith("python src/") and OWN_ABLATION not in line})
FIRST = shlex.split(
    next(line for line in LINES if line.startswith("pip install -e . && python")).split(" && ")[1]
)[1:]
LINKS = [
    (page, link)
    for page in PAGES
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXTS[page])
    if "://" not in link
]


def _counts(text: str, names: int) -> list[int]:
    """Parameters of each of a row's models: one number for all, or one for each."""
    counts = [int(count.replace(",", "")) for count in text.split(";")]
    return counts * names if len(counts) == 1 else counts


MODELS = [
    (name, count)
    for names, counts in re.findall(r"^\| (`[^|]*) \| [^|]* \| ([\d,; ]+) \|$", TEXTS["conf/README.md"], re.M)
    for name, count in zip(re.findall(r"`(\w+)`", names), _counts(counts, names.count("`") // 2), strict=True)
]


def test_the_readme_answers_in_150_lines() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 150


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_each_link_leads_somewhere(page: str, link: str) -> None:
    assert (ROOT / page).parent.joinpath(link).exists()


def test_each_switch_is_a_group_or_a_setting() -> None:
    table = TEXTS["conf/README.md"].split("## Switches")[1].split("\n## ")[0]
    switches = {
        name for row in re.findall(r"^\| (`[^|]*) \|", table, re.M) for name in re.findall(r"`([\w./]+)", row)
    }
    groups = {
        folder.relative_to(ROOT / "conf").as_posix()
        for folder in (ROOT / "conf").rglob("*")
        if folder.is_dir()
    }
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train")
    settings = {name for name in switches if "/" not in name and not name.startswith(".")} - groups
    assert len(switches) > 15
    assert {name for name in switches if "/" in name} <= groups
    for name in settings - {"trainer."}:
        node = cfg
        for part in name.split("."):
            assert part in node, name
            node = node[part]


@pytest.mark.quick(12)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_names_a_script_and_settings_that_exist(command: str) -> None:
    script, *settings = shlex.split(command)[1:]
    assert (ROOT / script).exists()
    settings = of_libraries([item for item in settings if not item.startswith(("-", "hydra"))])
    settings = [of_all(item, Path(script).stem) for item in settings]
    parser = OverridesParser.create()
    single = [f"{item.split('=')[0]}={_first_value(parser, item)}" for item in settings]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose(Path(script).stem, single)


def _first_value(parser: OverridesParser, item: str) -> str:
    override = parser.parse_override(item)
    if override.is_interval_sweep():
        return str(override.value().start)  # type: ignore[union-attr]
    if override.is_sweep_override():
        return next(iter(override.sweep_string_iterator()))
    return item.split("=", 1)[1]


@pytest.mark.slow
def test_the_first_command_runs_shortened(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, *FIRST, f"output_dir='{tmp_path}'", *DEMO, *TINY],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "directory" in run.stdout


def test_what_is_published_is_that_of_the_record() -> None:
    """Else: python src/report.py publish=true."""
    files = publish.published(ROOT)
    assert {ROOT / "README.md", ROOT / "results/README.md"} <= files.keys()
    figure = files.pop(ROOT / publish.FOREST, "")
    assert [path for path, text in files.items() if path.read_text() != text] == []
    assert bool(figure) == (ROOT / publish.FOREST).exists()
    if figure:  # its bytes are those of a version of Matplotlib
        drawn = (ROOT / publish.FOREST).read_text()
        assert publish.digest(files[ROOT / publish.VERDICTS]) in drawn
        words = [re.findall(r"<text[^>]*>([^<]*)</text>", text) for text in (drawn, figure)]
        assert words[0] == words[1] != []


def test_each_model_is_in_the_table() -> None:
    libraries = {"torchvision", "timm", "branches"}  # no network by themselves
    assert {name for name, _ in MODELS} == {
        path.stem for path in (ROOT / "conf/model").glob("*.yaml")
    } - libraries


@pytest.mark.slow  # the recorded table of models has them too
@pytest.mark.parametrize(("name", "count"), MODELS)
def test_parameters_are_those_of_the_network(name: str, count: int) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        model = compose("summary", [f"model={name}"]).model
    classes = model.num_classes or (10 if model.crop_size < 64 else 1000)  # as CIFAR-10 and MNIST have
    with torch.device("meta"):
        network = from_config({**model, "num_classes": classes, "init": None})
    assert sum(weight.numel() for weight in network.parameters()) == count


@pytest.mark.slow
def test_the_python_block_runs_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.S)
    asked = [*DEMO, *TINY, f"output_dir='{tmp_path}'"]
    monkeypatch.chdir(tmp_path)
    script = block.replace("epochs=2", f"epochs=2, overrides={asked!r}").replace("photos/", "demo/val/*/")
    exec(compile(script, "README.md", "exec"), {})


@pytest.mark.slow
def test_the_first_command_learns(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, *FIRST, f"output_dir='{tmp_path}'"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    error = re.search(r"val error +top-1 ([\d.]+) %", run.stdout)
    assert error
    assert float(error[1]) < 40
