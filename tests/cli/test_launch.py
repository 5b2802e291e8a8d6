"""Paths survive Hydra's grammar, and its errors name what is near."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alexnet.cli.app import compose, quoted, run
from alexnet.cli.help import text as help_text
from alexnet.cli.messages import check_options
from alexnet.errors import UserError
from commands import ROOT

ODD = [  # names of folders
    "/a b",
    "/it's",
    '/a"b"',
    "/[x]",
    "/{x}",
    "/a=b",
    "/a,b",
    "~/data",
    "/ä ö/图",
    "/a\\'b",
    "/(1)",
    "C:\\x",
]


def value(argument: str) -> object:
    override = OverridesParser.create().parse_override(quoted(argument))
    assert not override.is_sweep_override()
    return override.value()


@pytest.mark.parametrize("place", ODD)
@pytest.mark.parametrize("key", ["data.root", "output_dir", "hydra.run.dir", "+data.root", "runs"])
def test_paths_come_through_as_typed(key: str, place: str) -> None:
    assert value(f"{key}={place}") == os.path.expanduser(place)  # noqa: PTH111


# a path ends in no backslash, and ${ is left to Hydra
@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1).filter(lambda s: "${" not in s))
def test_any_path_comes_through(name: str) -> None:
    place = f"/data/{name}/x"
    assert value(f"data.root={place}") == place


@pytest.mark.parametrize("pattern", ["out/*", "out/a[0-9]?", "/a b/lrn-*", "~/out/{a,b}-*"])
def test_a_pattern_comes_through_as_typed(pattern: str) -> None:
    assert value(f"runs={pattern}") == os.path.expanduser(pattern)  # noqa: PTH111


LISTED = [
    ("[/a/b.ckpt]", ["/a/b.ckpt"]),
    ("[/a/b.ckpt,/c d/e.ckpt]", ["/a/b.ckpt", "/c d/e.ckpt"]),
    ("[/a=b, /it's/c]", ["/a=b", "/it's/c"]),
    ("['/a,b',/c]", ["/a,b", "/c"]),
    ("[\"/a=1,b=2/l.ckpt\", '/c [d]' ]", ["/a=1,b=2/l.ckpt", "/c [d]"]),
    ("[/a/(1),/b/{x}]", ["/a/(1)", "/b/{x}"]),
    ("[~/a,/b]", [os.path.expanduser("~/a"), "/b"]),  # noqa: PTH111
    ("[]", []),
]


@pytest.mark.parametrize(("typed", "paths"), LISTED)
def test_a_list_of_paths_comes_through_as_typed(typed: str, paths: list[str]) -> None:
    assert value(f"checkpoint={typed}") == paths


@given(st.lists(st.text(st.sampled_from("ab =(){}*:;~#图"), min_size=1), min_size=1))
def test_any_list_of_paths_comes_through(names: list[str]) -> None:
    paths = [f"/data/{name}/x" for name in names]
    assert value(f"checkpoint=[{','.join(paths)}]") == paths


def test_a_path_in_brackets_is_a_list_only_where_there_can_be_several() -> None:
    assert value("data.root=[x]") == "[x]"
    assert value("checkpoint=/a [1]/b.ckpt") == "/a [1]/b.ckpt"


def test_a_sweep_over_paths_keeps_its_commas() -> None:
    assert quoted("data.root=/a,/b", sweep=True) == "data.root=/a,/b"
    assert quoted("data.root=/a b", sweep=True) == "data.root='/a b'"


STAYS = ("seed=0,1,2", "model.remove=[conv3]", "data.root='/a b'", 'data.root="/a=b"', "-m")


@pytest.mark.parametrize("argument", [*STAYS, "data.root=${oc.env:HOME}/x"])
def test_what_is_no_path_or_quoted_already_stays(argument: str) -> None:
    assert quoted(argument) == argument


NEW = ("optim.layers.fc8.lr", "optim.layers.fc8", "model.changes.conv2.padding", "model.dropout_rates.conv4")
REFUSED = {key: f"^There is no {key} yet. To add it, put a plus in front: .{key}=...$" for key in NEW} | {
    "logger.wandb.mode": "^There is no setting logger.wandb.mode without logger=wandb: choose it as well.$",
    "optim.layer.fc8.lr": "Did you mean optim.layers",
    "model.changess": "There is no setting model.changess",
    "model.dropout_ratesx.fc6": "There is no setting model.dropout_ratesx.fc6",
}


@pytest.mark.parametrize(("key", "message"), REFUSED.items())
def test_what_is_no_setting_is_told_of_a_plus_only_where_that_helps(key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose("train", [f"{key}=1"])
    if key in NEW:
        assert compose("train", [f"+{key}=1"])


TYPED = [
    ("train", "lrn", "There is no setting lrn: .* Did you mean claim=lrn or model/norm=lrn?"),
    ("train", "data.root", "data.root has no value: type data.root=VALUE."),
    ("train", "=5", "=5 has no key"),
    ("train", "optim={}", "optim={} changes nothing: leave it out"),
    ("train", "+data=imagenette", "data has a choice already. .* leave out the plus: data=imagenette"),
    ("train", "data=./photos", "data=./photos is not possible: .* data=image_folder data.root=./photos"),
    ("train", "model/norm=a", "model/norm=a is not possible: choose batch"),
    ("train", "optim.lr=${nowhere}", "a value can't be resolved: Interpolation key 'nowhere' not found"),
    ("train", "seed=range(3)", "seed=range(3) has several values"),
    ("evaluate", "outputs/run", "A path is given as checkpoint=outputs/run"),
    ("predict", "a/b.jpg", "A path is given as images=a/b.jpg"),
    ("convert", "a/b.pth", "A path is given as weights=a/b.pth"),
]


@pytest.mark.parametrize(("entry", "typed", "said"), TYPED)
def test_what_hydra_does_not_take_is_said_in_our_words(entry: str, typed: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        compose(entry, [typed])
    assert all(words in str(error.value) for words in said.split(" .* "))
    assert "\n" not in str(error.value)
    assert "hydra.cc" not in str(error.value)


def test_a_setting_after_an_option_is_named() -> None:
    with pytest.raises(UserError, match="seed=1 comes too late"):
        check_options(["seed=0", "--cfg", "job", "seed=1"])
    with pytest.raises(UserError, match=r"--resolve is possible with --cfg only"):
        check_options(["--resolve", "seed=0"])


def ended(main: Callable[[], object], entry: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit status of an entry with that main function."""
    monkeypatch.setattr("sys.argv", [f"{entry}.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as caught:
        run(main, entry)
    return caught.value.code


def test_a_file_that_is_no_yaml_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(lambda: OmegaConf.load(io.StringIO("base\nsentence: b")), "train", monkeypatch) == 1
    said = capsys.readouterr().err
    assert "is not valid YAML" in said
    assert "line 2" in said


def test_reading_no_further_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert ended(main, "report", monkeypatch) == 0


ENTRIES = (
    "train",
    "evaluate",
    "predict",
    "kernels",
    "neighbours",
    "summary",
    "preview",
    "prepare",
    "convert",
)
ENTRIES += ("export", "report", "record", "dashboard", "benchmark")
PARTS = ("_target_", "path", "root", "variable")  # of a source or a callback, which its own file explains
LAYERS = ("model.init.std.", "model.init.bias.", "optim.layers.")  # layers' names are settings there


@pytest.mark.parametrize("entry", ENTRIES)
def test_help_says_what_each_setting_means(entry: str) -> None:
    told = help_text(entry)
    assert told.startswith(("python src/", "Trains"))
    assert ("groups, group=choice" in told) == (
        entry in ("train", "summary", "preview", "prepare", "convert")
    )
    shown = told.partition("settings, key=value:\n")[2]
    settings = yaml.compose(shown)
    lines = shown.splitlines()
    silent = [key for key, line in keys_of(settings) if "#" not in lines[line]]
    assert [key for key in silent if key.split(".")[-1] not in PARTS and not key.startswith(LAYERS)] == []
    assert "hydra:" not in shown


def keys_of(node: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Those with a value of their own, and their lines."""
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from keys_of(value, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", key.start_mark.line


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("model=alexnet", "  norm: null"),
        ("schedule=cosine", "  last: 0.0                     # share of the rate that it falls to"),
        ("optim.lr=0.5", "  lr: 0.5 "),
    ],
)
def test_help_is_of_what_is_chosen(argument: str, line: str) -> None:
    assert line in help_text("train", ["--help", argument])
    assert line not in help_text("train")


def test_help_is_of_the_first_of_several_values_and_refuses_what_can_not_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert help_text("train", ["--help", "-m", "model/norm=none,lrn"]) == help_text(
        "train", ["model/norm=none"]
    )
    assert help_text("train", ["--help", "claim=lrn", "nonsense"]) == help_text("train")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which run() sets for the rest of its process
    monkeypatch.setattr("sys.argv", ["train.py", "--help", "model=nosuch"])
    with pytest.raises(SystemExit):
        run(lambda: None, "train")
    assert "model=nosuch is not possible: choose" in capsys.readouterr().err


def test_what_goes_on_in_a_second_line_is_said_whole() -> None:
    said = " ".join(line.partition("# ")[2] for line in help_text("train").splitlines())
    assert "or ddp_find_unused_parameters_true if the network needs it; towers: each of two devices" in said


def test_nobody_has_to_listen() -> None:
    """Standard output that is closed, as by >&- in a shell."""
    command = f"{sys.executable} src/predict.py checkpoint=none >&-"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: checkpoint=none is not a file")


PRESSED = """
import sys
library = sys.argv.pop()

class Finder:
    def find_spec(self, name, *_):
        if name == library:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
sys.path.insert(0, "src")
from alexnet.cli import start
start("train")
"""


@pytest.mark.parametrize("library", ["alexnet.cli.app", "omegaconf", "torch"])
def test_an_interrupt_while_libraries_are_imported_is_no_error(library: str) -> None:
    command = [sys.executable, "-c", PRESSED, library]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
