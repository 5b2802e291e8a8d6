"""A whole training step of AlexNet: forward, loss, backward, update."""

import math
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.benchmark.norms import torch_norm
from alexnet.benchmark.timing import (
    Row,
    Sizes,
    Timer,
    Times,
    compare,
    cost,
    counted,
    interleaved,
    speed_up,
    timed,
)
from alexnet.models import summary
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, PublishedDropout
from alexnet.ops import memory
from alexnet.runs.precision import FORMATS, has_bf16
from alexnet.training import optim, threads

CLASSES = 1000
BACKWARD_TOO = 3  # times the forward pass's operations: the gradients of inputs and of weights
VIEWS = ("Flatten", "Identity")  # layers that move no bytes
TRIES = 3  # rounds in which the layouts are tried


@dataclass
class Step:
    """A network with its optimiser and one batch; a call is one step."""

    sizes: Sizes
    device: torch.device
    norm: Callable[[], nn.Module] | None
    dtype: torch.dtype = torch.float32  # bfloat16: autocast
    layout: str = "contiguous"
    as_trained: bool = False  # with memory as a run has it
    network: AlexNet = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        side, shape = self.sizes.step_pixels, getattr(torch, FORMATS[self.layout])
        network = AlexNet(CLASSES, side, width=self.sizes.width, norm=self.norm, dropout=PublishedDropout)
        self.network = network.to(self.device).to(memory_format=shape)
        self.optimizer = optim.published(self.network, lr=1e-4, momentum=0.9, weight_decay=5e-4)
        images = 50 * torch.randn(self.sizes.step_batch, 3, side, side, device=self.device)
        self.images = images.contiguous(memory_format=shape)
        self.labels = torch.randint(CLASSES, (self.sizes.step_batch,), device=self.device)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss())
        self.optimizer.step()

    def loss(self) -> Tensor:
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if mixed else nullcontext():
            logits = self.network(self.images)
        return functional.cross_entropy(logits.float(), self.labels)

    def seconds(self) -> float:
        with memory.kept(self.device) if self.as_trained else nullcontext():
            self()  # after other work memory is fetched anew
            return timed(self, 1, self.device, self.sizes.repeats(self.device))

    @property
    def matmul_side(self) -> int:
        return self.sizes.matmul[self.device.type != "cpu"]

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}, {self.layout.replace('_', ' ')}"


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """Time and memory against the network as one would write it, the norm's share, the peak's share."""
    usual, fast = Step(sizes, device, torch_norm), fast_step(sizes, device)
    bare = Step(sizes, device, None, fast.dtype, fast.layout, as_trained=True)
    timers: dict[str, Timer] = {
        "torch": usual.seconds,
        "ours": fast.seconds,
        "no norm": bare.seconds,
        "matmul": matmul_of(fast),
        "copy": copy_of(fast),
    }
    times = interleaved(timers, rounds, "step")

    per_image = {name: [value / sizes.step_batch for value in seconds] for name, seconds in times.items()}
    eager = f"nn.LocalResponseNorm, float32, contiguous, eager, batch {sizes.step_batch}; ours: {fast}"

    on_gpu = device.type == "cuda"
    measure = peak_bytes if on_gpu else saved_bytes
    above, below = measure(usual), measure(fast)
    what = "peak memory of the step" if on_gpu else "bytes kept for the backward pass (weights left out)"

    return [
        speed_up("step/alexnet_lrn", per_image, "torch", "ours", eager, "images/s"),
        counted("step/memory", above / below, f"{what}, as step/alexnet_lrn", below / 2**20, "MiB"),
        cost("step/lrn_cost", times, "ours", "no norm", f"the same step without norms, {fast}", "ms"),
        roofline("step/roofline", fast, times),
        by_layers("step/layers", fast, times),
        *small_rows(sizes, rounds, device),
    ]


def small_rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """The peak's share of the step that people run first; on a CPU with one thread as well."""
    sizes = replace(sizes, step_pixels=sizes.small_pixels, step_batch=sizes.small_batch)
    step, all_threads = fast_step(sizes, device), torch.get_num_threads()
    counts = {"step/67px": all_threads} | ({"step/67px_1_thread": 1} if device.type == "cpu" else {})
    rows = []
    for name, count in counts.items():
        with threads.using(count):
            times = interleaved({"ours": step.seconds, "matmul": matmul_of(step)}, rounds, name)
            rows.append(roofline(name, step, times))
    return rows


def matmul_of(step: Step) -> Timer:
    """Seconds of a product of two large square matrices, as the step computes."""
    side = step.matmul_side
    factors = [torch.randn(side, side, device=step.device).to(step.dtype) for _ in range(2)]
    return partial(timed, partial(torch.matmul, *factors), 1, step.device, step.sizes.repeats(step.device))


def copy_of(step: Step) -> Timer:
    """Seconds of a copy of a large matrix of float32."""
    side = step.matmul_side
    source, target = (torch.zeros(side, side, device=step.device) for _ in range(2))
    work = partial(target.copy_, source)
    return partial(timed, work, 1, step.device, step.sizes.repeats(step.device))


def by_layers(name: str, step: Step, times: Times) -> Row:
    """The time that least() allows over that of the step, "ours"."""
    side = step.matmul_side
    allowed = [
        least(step, 2 * side**3 / product, 2 * 4 * side**2 / copy)
        for product, copy in zip(times["matmul"], times["copy"], strict=True)
    ]
    what = (
        "share reached of what each layer's operations or bytes allow, at the rates of a matrix product and a"
    )
    what += f" copy, optimiser included, {step}, batch {step.sizes.step_batch}, {step.sizes.step_pixels} px"
    return compare(name, allowed, times["ours"], what, 1e3 * statistics.median(times["ours"]), "ms")


def least(step: Step, rate: float, bandwidth: float) -> float:
    """Seconds of a step in which each layer takes as long as its operations or its bytes, whichever is more.

    rate: operations a second. bandwidth: bytes a second. Backward, layers with weights compute and move twice
    what they do forward, except for the first, which needs no gradient of its input; others read a map more.
    """
    batch, size = step.sizes.step_batch, step.dtype.itemsize
    rows = summary.layers(step.network, step.sizes.step_pixels)
    seconds, before, is_first = 0.0, step.images[0].numel(), True
    for row in rows:
        if row["kind"] in VIEWS:
            continue
        after, has_weights = math.prod(row["output"]), row["parameters"] > 0
        operations, moved = (
            2 * batch * row["multiply_adds"],
            size * (batch * (before + after) + row["parameters"]),
        )
        times = 2 if has_weights and not is_first else 1
        back = times * moved if has_weights else moved + size * batch * after
        seconds += max(operations / rate, moved / bandwidth) + max(
            times * operations / rate, back / bandwidth
        )
        before, is_first = after, is_first and not has_weights
    float32 = 4 * sum(
        row["parameters"] for row in rows
    )  # weight, gradient and velocity are read, two written
    return float(seconds + 5 * float32 / bandwidth)


def roofline(name: str, step: Step, times: Times) -> Row:
    """The rate of the step, "ours", over that of the product, "matmul"."""
    sizes, side = step.sizes, step.matmul_side
    macs = summary.totals(summary.layers(step.network, sizes.step_pixels))["multiply_adds"]
    operations = 2 * BACKWARD_TOO * macs * sizes.step_batch
    products = [seconds * operations / (2 * side**3) for seconds in times["matmul"]]
    share = f"share reached of a {side} x {side} matrix product's rate, {step}"
    share += f", batch {sizes.step_batch}, {sizes.step_pixels} px"
    share += f", threads: {torch.get_num_threads()}" if step.device.type == "cpu" else ""
    rate = operations / statistics.median(times["ours"]) / 1e12
    return compare(name, products, times["ours"], share, rate, "TFLOP/s")


def fast_step(sizes: Sizes, device: torch.device) -> Step:
    """bf16 where the hardware has it, and the layout that turns out faster."""
    dtype = torch.bfloat16 if has_bf16(device.type) else torch.float32
    steps = {
        layout: Step(sizes, device, LocalResponseNorm, dtype, layout, as_trained=True) for layout in FORMATS
    }
    times = interleaved({layout: step.seconds for layout, step in steps.items()}, TRIES, "layouts")
    return steps[min(times, key=lambda layout: min(times[layout]))]


def peak_bytes(step: Step) -> int:
    """Allocated at most during a step on a GPU, beyond what other networks had allocated before."""
    step()
    weights = list(step.network.parameters())
    tensors = [*weights, step.images, step.labels]
    tensors += [step.optimizer.state[weight]["velocity"] for weight in weights]
    tensors += [weight.grad for weight in weights if weight.grad is not None]
    torch.cuda.reset_peak_memory_stats(step.device)
    elsewhere = torch.cuda.memory_allocated(step.device) - sum(tensor.nbytes for tensor in tensors)
    step()
    return torch.cuda.max_memory_allocated(step.device) - elsewhere


def saved_bytes(step: Step) -> int:
    """Of the distinct memory blocks that the graph keeps, weights and the batch left out."""
    inputs = {tensor.untyped_storage().data_ptr() for tensor in [*step.network.parameters(), step.images]}
    blocks: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no block is freed and its address used again

    def note(saved: Tensor) -> Tensor:
        alive.append(saved)
        block = saved.untyped_storage()
        if block.data_ptr() not in inputs:
            blocks[block.data_ptr()] = block.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        step.loss()
    return sum(blocks.values())
