"""The benchmark runs, says what it measured, and counts right. No test asks how fast anything is."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from alexnet.benchmark import evaluation, gpu, inputs, loops, norms, report, start, steps, timing
from alexnet.benchmark.timing import CPU, FULL, QUICK, Row, choose_device
from alexnet.data.augment import Pixels
from alexnet.errors import UserError
from alexnet.models.layers import LocalResponseNorm
from alexnet.runs.precision import has_bf16
from commands import fork
from tiny import ROOT

KEYS = ["name", "ratio", "low", "high", "baseline", "value", "unit"]
NAMES = {
    "data": ["pack_uint8_1_thread", "pack_float32_1_thread", "pack_uint8_2_threads", "jpeg_uint8"],
    "lrn": ["conv1", "conv2", "floor", "roofline"],
    "step": ["alexnet_lrn", "memory", "lrn_cost", "roofline", "layers", "67px", "67px_1_thread"],
    "towers": ["step", "memory", "half_width"],
    "loop": ["lightning"],
    "eval": ["ten_crop", "ten_crop_float32"],
    "sweep": ["jobs"],
    "start": ["help", "train"],
    "claim": ["lrn"],
    "scale": ["prepare", "files", "pack"],
    "gpu": ["input"],
}


def _checked(suite: str, rows: list[Row]) -> None:
    assert [row.name for row in rows] == [f"{suite}/{name}" for name in NAMES[suite]]
    for row in rows:
        assert row.baseline
        assert row.unit
        assert all(math.isfinite(each) and each > 0 for each in (row.ratio, row.low, row.high, row.value))
        assert row.low <= row.ratio <= row.high


@pytest.mark.quick(2)
@pytest.mark.parametrize("suite", ["data", "eval", "loop", "scale", "step", "towers"])
def test_each_suite_gives_its_rows_with_finite_positive_numbers(
    suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "QUICK", replace(QUICK, workers=0))
    _checked(suite, report.run(suite, 1, True, "cpu", None)[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "unit", "words"),
    [
        ("sweep", "runs/hour", "at a time"),
        ("claim", "runs/hour", "2 runs, 50 images, 67 px"),
        ("start", "s", "torch is not imported"),
    ],
)
def test_commands_are_timed(suite: str, unit: str, words: str) -> None:
    rows = report.run(suite, 1, True, "cpu", None)[1]
    _checked(suite, rows)
    assert rows[0].unit == unit
    assert words in rows[0].baseline


def test_the_input_of_a_gpu_is_timed_on_one_and_refused_without(monkeypatch: pytest.MonkeyPatch) -> None:
    _checked("gpu", gpu.rows(QUICK, 1, CPU))  # the device is what it is given
    with pytest.raises(UserError, match="suite=gpu is not possible without a GPU"):
        report.run("gpu", 1, True, "cpu", None)
    calls: list[str] = []
    monkeypatch.setattr(report, "import_module", lambda name: calls.append(name) or FakeSuite)
    assert report.run("all", 1, True, "cpu", None)[1] == []
    assert [name.rpartition(".")[2] for name in calls] == [
        module for suite, module in report.SUITES.items() if suite != "gpu"
    ]


class FakeSuite:
    @staticmethod
    def rows(*arguments: object) -> list[Row]:
        return []


def test_the_least_time_of_layers_is_counted_by_hand() -> None:
    layers = [nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)]
    step = SimpleNamespace(
        sizes=SimpleNamespace(step_batch=2, step_pixels=1),
        dtype=torch.float32,
        network=nn.Sequential(*layers),
        images=torch.zeros(2, 3, 1, 1),
    )
    # forward 4 bytes of 2 (3 + 4) + 16, 2 (4 + 4), 2 (4 + 2) + 10; backward once, and 2 * 4 more, and twice
    forward, backward = (4 * 30, 4 * 16, 4 * 22), (4 * 30, 4 * 24, 4 * 44)
    optimiser = 5 * 4 * 26
    assert steps.least(step, math.inf, 1.0) == sum(forward) + sum(backward) + optimiser  # type: ignore[arg-type]
    # 2 * 2 * 12 and 2 * 2 * 8 operations forward; the first once backward, the second twice
    assert steps.least(step, 1.0, math.inf) == 2 * 48 + 3 * 32  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["data", "eval"])
def test_the_usual_way_has_workers(suite: str) -> None:
    """Each of which takes seconds to start."""
    rows = report.run(suite, 1, True, "cpu", None)[1]
    _checked(suite, rows)
    assert any(f"{QUICK.workers} workers" in row.baseline for row in rows)


@pytest.mark.slow
def test_standard_output_holds_json_and_nothing_else() -> None:
    settings = ("suite=lrn", "quick=true", "rounds=2", "device=cpu", "format=json")
    done = fork("src/benchmark.py", *settings)
    told = json.loads(done.stdout)
    assert [list(row) for row in told["rows"]] == [KEYS] * len(NAMES["lrn"])
    _checked("lrn", [Row(**row) for row in told["rows"]])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            {"suite": "dta"},
            [
                "suite=dta",
                "data, lrn, step, towers, loop, eval, sweep, start, claim, scale, gpu, all",
                "mean data?",
            ],
        ),
        ({"rounds": 0}, ["rounds=0", "at least 1"]),
        ({"quick": "yes"}, ["quick=yes", "true, false"]),
        ({"device": "gpu"}, ["device=gpu", "auto, cpu, cuda"]),
        ({"suite": "data", "root": "/nowhere at all"}, ["data.root=/nowhere at all", "class folders"]),
    ],
)
def test_impossible_settings_are_refused_by_name(setting: dict[str, object], words: list[str]) -> None:
    asked = {"suite": "lrn", "rounds": 1, "quick": True, "device": "cpu", "root": None} | setting
    with pytest.raises(UserError) as caught:
        report.run(**asked)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert choose_device("auto") == CPU
    with pytest.raises(UserError, match=r"device=cuda .* no GPU"):
        choose_device("cuda")


def test_the_config_has_the_settings_of_the_suites_and_no_others() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("benchmark")
    assert set(cfg) == {"suite", "rounds", "device", "quick", "read", "format", "data"}
    assert (cfg.suite, cfg.device, cfg.format, cfg.data.root) == ("all", "auto", "text", None)
    assert set(NAMES) == set(report.SUITES)
    assert {name for name, (kind, _) in report.GOALS.items() if kind == report.AT_MOST} == {
        "start/help",
        "start/train",
        "lrn/floor",
        "step/lrn_cost",
        "scale/prepare",
        "scale/files",
        "scale/pack",
    }
    assert set(report.GOALS) <= {f"{suite}/{name}" for suite, names in NAMES.items() for name in names}


def _fake(seconds: list[float], calls: list[str], name: str) -> Callable[[], float]:
    left = iter(seconds)

    def run() -> float:
        calls.append(name)
        return next(left)

    return run


def test_rounds_take_turns_and_the_first_warms_up() -> None:
    calls: list[str] = []
    timers = {"a": _fake([9, 1, 2], calls, "a"), "b": _fake([9, 3, 4], calls, "b")}
    assert timing.interleaved(timers, 2, "fake") == {"a": [1, 2], "b": [3, 4]}
    assert "".join(calls) == "abbaab"


def test_a_ratio_is_paired_by_round() -> None:
    times = {"slow": [2.0, 20.0, 8.0, 6.0, 100.0], "fast": [1.0, 5.0, 4.0, 1.0, 50.0]}  # 2, 4, 2, 6, 2
    row = timing.speed_up("x/y", times, "slow", "fast", "told", "images/s")
    assert (row.low, row.ratio, row.high) == (2, 2, 4)
    assert row.value == 1 / 4  # of ours alone: a unit in 4 seconds
    assert timing.cost("x/y", times, "slow", "fast", "told", "ms").value == 8000
    assert timing.cost("x/y", times, "slow", "fast", "told", "s").ratio == row.ratio


@pytest.mark.parametrize(("ratio", "told"), [(100.0, "yes"), (99.9, "no")])
def test_goals_are_compared_with_the_ratio(ratio: float, told: str) -> None:
    row = timing.counted("data/pack_uint8_1_thread", ratio, "told", 1.0, "images/s")
    assert report.goal(row) == f"at least 100: {told}"
    assert report.goal(replace(row, name="step/bytes")) == ""
    assert report.goal(replace(row, name="start/help", ratio=ratio / 25)) == (
        f"at most 4: {'yes' if ratio <= 100 else 'no'}"
    )


def test_the_table_has_a_line_for_each_row() -> None:
    rows = [timing.counted(name, 1234.5, "word " * 30, 0.00123, "GB/s") for name in report.GOALS]
    lines = report.text("a device", rows).splitlines()
    assert lines[0].startswith("a device.")
    assert all(sum(line.startswith(f"{row.name} ") for line in lines) == 1 for row in rows)
    assert "1,234" in lines[3]


def test_kept_json_becomes_a_table_for_the_readme(tmp_path: Path) -> None:
    row = timing.Row("lrn/floor", 1.9, 1.8, 2.0, "a product", 0.5, "ms")
    file = tmp_path / "kept.json"
    file.write_text(report.as_json("a device", [row]))
    head, _, line = report.markdown(file).splitlines()
    assert head.startswith("| a device, torch ")
    assert line == "| `lrn/floor` | 1.9 (1.8 to 2) | at most 1.25: no | 0.5 ms | a product |"
    file.write_text("[]")
    with pytest.raises(UserError, match="not JSON from this benchmark"):
        report.markdown(file)


def test_one_core_is_given_back() -> None:
    before = torch.get_num_threads()
    with timing.one_core():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_both_pipelines_give_the_same_kind_of_batch(tmp_path: Path) -> None:
    sizes = replace(QUICK, pixels=(32, 32), files=6)  # of square files: the crop is the whole image
    square = replace(sizes, drawn=(48, 48))
    images = inputs.images_below(inputs.draw(tmp_path / "images", square), sizes)
    paths, labels = inputs.paths_and_labels(images)
    packed = inputs.pack(paths, replace(sizes, packed=6), tmp_path / "pack.npy")
    pixels = Pixels.of(inputs.statistics_of(32), 32, "root")
    own = inputs.our_batches(packed.__getitem__, labels, sizes, 1)
    usual = list(inputs.usual_loader(images, sizes, 0))
    ours = list(inputs.augmented(own, pixels, CPU))
    for (their_images, their_labels), (our_images, our_labels) in zip(usual, ours, strict=True):
        assert (their_images.shape, their_images.dtype) == (our_images.shape, our_images.dtype)
        assert (their_labels.shape, their_labels.dtype) == (our_labels.shape, our_labels.dtype)
    _same_pictures(torch.cat([batch[0] for batch in usual]), 127 + torch.cat([batch[0] for batch in ours]))


def _same_pictures(first: Tensor, second: Tensor) -> None:
    """In any order, mirrored or not, whatever the colours were shifted by."""

    def shades(images: Tensor) -> list[float]:
        plain = images - images.mean(dim=(2, 3), keepdim=True)
        return sorted(plain.std(dim=(1, 2, 3)).tolist())

    assert shades(first) == pytest.approx(shades(second), abs=0.5)


def test_colour_noise_is_that_of_the_augmentation() -> None:
    noise, plain = inputs.ColourNoise(), torch.zeros(3, 1, 1)
    torch.manual_seed(0)
    drawn = torch.stack([noise(plain).flatten() for _ in range(4000)])
    pixels = Pixels.of(inputs.statistics_of(2), 2, "root")
    colours = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (4000, 3)).astype(np.float32))
    seen = pixels.augmented(
        torch.zeros(4000, 3, 2, 2, dtype=torch.uint8), torch.zeros(4000) > 0, colours, 1.0
    )
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(seen[:, :, 0, 0].T), rtol=0.1, atol=1.0)


def test_a_drawn_file_has_the_size_and_weight_of_a_photograph(tmp_path: Path) -> None:
    folder = inputs.draw(tmp_path, replace(FULL, files=6))
    weights = [path.stat().st_size for path in folder.rglob("*.jpg")]
    assert len(weights) == 6
    assert 80_000 < np.mean(weights) < 140_000


def test_the_two_norms_are_the_same_function() -> None:
    maps = 20 * torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(norms.torch_norm()(maps), LocalResponseNorm()(maps))


def test_the_steps_differ_in_the_norm_alone() -> None:
    naive, fast = steps.Step(QUICK, CPU, norms.torch_norm), steps.Step(QUICK, CPU, LocalResponseNorm)
    assert isinstance(naive.network.norm1, nn.LocalResponseNorm)
    assert all(map(torch.equal, naive.network.parameters(), fast.network.parameters()))
    assert "norm1" not in steps.Step(QUICK, CPU, None).network._modules


def test_bf16_is_used_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "TRIES", 1)
    assert isinstance(has_bf16("cpu"), bool)
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(steps, "has_bf16", lambda device, has=has: has)
        assert steps.fast_step(QUICK, CPU).dtype == dtype


def test_kept_bytes_are_those_of_the_distinct_blocks() -> None:
    step = steps.Step(QUICK, CPU, None)
    step.network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 67**2, 1000), nn.Sigmoid())  # type: ignore[assignment]
    logits = 4 * QUICK.step_batch * 1000
    # the sigmoid's output and the loss's log-softmax, with labels and a sum of weights of a few bytes
    assert 2 * logits <= steps.saved_bytes(step) <= 2 * logits + 100


def test_the_loop_trains_on_the_same_batches_both_ways(tmp_path: Path) -> None:
    first, second = (list(loops.data(QUICK, tmp_path).train_dataloader()) for _ in range(2))
    assert all(torch.equal(a.crops, b.crops) for a, b in zip(first, second, strict=True))
    assert len(first[0].labels) == QUICK.loop_batch


def test_modules_that_a_program_imports_are_found() -> None:
    found = start.imported_modules(("-c", "import json.decoder"))
    assert "json.decoder" in found
    assert "torch" not in found


def test_both_ways_to_ten_crops_give_the_same_scores(tmp_path: Path) -> None:
    """On images of the size that both bring them to, as files without loss."""
    sizes = QUICK.for_eval
    rng = np.random.default_rng(0)
    side = sizes.eval_pixels[0]
    for number in range(sizes.files):
        folder = tmp_path / str(number % 2)
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    images = ImageFolder(str(tmp_path), evaluation.ten_crops(sizes.eval_pixels))
    packed = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path, _ in images.samples])
    made = evaluation.network(sizes)
    usual = evaluation.Usual(made, DataLoader(images, 2), CPU)()
    ours = evaluation.Ours(made, packed, sizes, CPU, "32-true")()
    assert torch.allclose(torch.cat(usual), torch.cat(ours), rtol=1e-4, atol=1e-6)
    assert torch.cat(ours).std(dim=0).max() > 0
