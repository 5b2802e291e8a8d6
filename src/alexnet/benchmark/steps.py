"""A whole training step of AlexNet: forward, loss, backward, update."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.benchmark.device import Matmul
from alexnet.benchmark.norms import torch_norm
from alexnet.benchmark.sizes import Sizes, repeats
from alexnet.benchmark.timing import Row, compare, cost, fixed, interleaved, speed_up, timed
from alexnet.models import summary
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, PublishedDropout
from alexnet.runs.precision import FORMATS, has_bf16
from alexnet.training import optim

CLASSES = 1000
BACKWARD_TOO = 3  # times the forward pass's operations: the gradients of inputs and of weights
TRIES = 3  # rounds in which the layouts are tried


@dataclass
class Step:
    """A network with its optimiser and one batch; a call is one step."""

    sizes: Sizes
    device: torch.device
    norm: Callable[[], nn.Module] | None
    dtype: torch.dtype = torch.float32  # bfloat16: autocast
    layout: str = "contiguous"
    network: AlexNet = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        side, shape = self.sizes.step_pixels, getattr(torch, FORMATS[self.layout])
        made = AlexNet(CLASSES, side, width=self.sizes.width, norm=self.norm, dropout=PublishedDropout)
        self.network = made.to(self.device).to(memory_format=shape)
        self.optimizer = optim.published(self.network, lr=1e-4, momentum=0.9, weight_decay=5e-4)
        images = 50 * torch.randn(self.sizes.step_batch, 3, side, side, device=self.device)
        self.images = images.contiguous(memory_format=shape)
        self.labels = torch.randint(CLASSES, (self.sizes.step_batch,), device=self.device)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss())
        self.optimizer.step()

    def loss(self) -> Tensor:
        with self._precision():
            logits = self.network(self.images)
        return functional.cross_entropy(logits.float(), self.labels)

    def seconds(self) -> float:
        return timed(self, 1, self.device, repeats(self.sizes, self.device))

    def _precision(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}, {self.layout.replace('_', ' ')}"


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """Time and memory against the network as one would write it, the norm's share, the peak's share."""
    naive = Step(sizes, device, torch_norm)
    fast = fast_step(sizes, device)
    bare = Step(sizes, device, None, fast.dtype, fast.layout)
    product = Matmul(sizes.matmul[device.type != "cpu"], device, fast.dtype)
    times = interleaved(
        {
            "torch": naive.seconds,
            "ours": fast.seconds,
            "no norm": bare.seconds,
            "matmul": partial(timed, product, 1, device, repeats(sizes, device)),
        },
        rounds,
        "step",
    )
    told = f"nn.LocalResponseNorm, float32, contiguous, eager, batch {sizes.step_batch}; ours: {fast}"
    per_image = {name: [each / sizes.step_batch for each in found] for name, found in times.items()}
    return [
        speed_up("step/alexnet_lrn", per_image, "torch", "ours", told, "images/s"),
        memory(naive, fast),
        cost("step/lrn_cost", times, "ours", "no norm", f"the same step without norms, {fast}", "ms"),
        roofline(fast, product, times),
    ]


def fast_step(sizes: Sizes, device: torch.device) -> Step:
    """bf16 where the hardware has it, and the layout that turns out faster."""
    dtype = torch.bfloat16 if has_bf16(device.type) else torch.float32
    steps = {layout: Step(sizes, device, LocalResponseNorm, dtype, layout) for layout in FORMATS}
    times = interleaved({layout: step.seconds for layout, step in steps.items()}, TRIES, "layouts")
    return steps[min(times, key=lambda layout: min(times[layout]))]


def memory(naive: Step, fast: Step) -> Row:
    """Peak of a step on a GPU; on a processor what the forward pass keeps for the backward pass."""
    on_gpu = fast.device.type == "cuda"
    measure = peak_bytes if on_gpu else saved_bytes
    above, below = measure(naive), measure(fast)
    what = "peak memory of the step" if on_gpu else "bytes kept for the backward pass (weights left out)"
    return fixed("step/memory", above / below, f"{what}, as step/alexnet_lrn", below / 2**20, "MiB")


def peak_bytes(step: Step) -> int:
    """Allocated at most during a step, beyond what was allocated before by other networks."""
    step()
    own = sum(each.nbytes for group in _states(step) for each in group)
    torch.cuda.reset_peak_memory_stats(step.device)
    others = torch.cuda.memory_allocated(step.device) - own
    step()
    return torch.cuda.max_memory_allocated(step.device) - others


def _states(step: Step) -> list[list[Tensor]]:
    weights = list(step.network.parameters())
    velocities = [step.optimizer.state[each]["velocity"] for each in weights]
    gradients = [each.grad for each in weights if each.grad is not None]
    return [weights, velocities, gradients, [step.images, step.labels]]


def saved_bytes(step: Step) -> int:
    """Of the distinct memory blocks that the graph keeps, weights and the batch left out."""
    own = {each.untyped_storage().data_ptr() for each in [*step.network.parameters(), step.images]}
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no block is freed and its address used again

    def note(saved: Tensor) -> Tensor:
        held.append(saved)
        block = saved.untyped_storage()
        if block.data_ptr() not in own:
            kept[block.data_ptr()] = block.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        step.loss()
    return sum(kept.values())


def roofline(fast: Step, product: Matmul, times: dict[str, list[float]]) -> Row:
    """Operations a second of the fast step, as a share of what a large matrix product reaches."""
    layers = summary.layers(fast.network, fast.sizes.step_pixels)
    macs = summary.totals(layers)["multiply_adds"]
    operations = 2 * BACKWARD_TOO * macs * fast.sizes.step_batch
    told = f"share reached of a {product.side} x {product.side} matrix product's rate, {fast}"
    in_its_time = [each * operations / product.operations for each in times["matmul"]]
    value = operations / statistics.median(times["ours"]) / 1e12
    return compare("step/roofline", in_its_time, times["ours"], told, value, "TFLOP/s")
