"""Rate times curvature against explicit Hessians, and where gradient descent with momentum overshoots."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from alexnet.analysis.sharpness import largest, limit, of_first_step
from alexnet.models.alexnet import AlexNet
from alexnet.models.init import Gaussian
from alexnet.models.layers import InvertedDropout, PublishedDropout
from alexnet.training.optim import PublishedSGD, published, sgd

SLOW = {"lr": 0.01, "bias_lr": 0.01}
NEAR = 0.01  # what ROUNDS promises
MOMENTA = [0.0, 0.5, 0.9, 0.99]
STD = {"default": 0.01, "conv3": 0.03, "conv4": 0.03, "conv5": 0.03}
BIASES = {"default": 0.0, "conv2": 1.0, "conv4": 1.0, "conv5": 1.0, "fc6": 1.0, "fc7": 1.0}


def _line(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    with torch.no_grad():
        network[3].weight.mul_(0.2)  # far from saddles
    return network


def _batch(dtype: torch.dtype = torch.float64, size: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 1 + torch.randn(9, 3, size, size, dtype=dtype, generator=generator), torch.arange(9) % 3


def _loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(network(batch[0]), batch[1])


def _largest(network: nn.Module, batch: tuple[Tensor, Tensor], scales: list[float]) -> float:
    """The largest eigenvalue of the whole matrix S H S, H by torch's own Hessian."""
    named = dict(network.named_parameters())

    def of_vector(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in named.values()])
        own = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        return functional.cross_entropy(functional_call(network, own, batch[0]), batch[1])

    start = torch.cat([p.detach().flatten() for p in named.values()])
    hessian = torch.autograd.functional.hessian(of_vector, start)
    s = torch.cat([torch.full((p.numel(),), v) for p, v in zip(named.values(), scales, strict=True)]).double()
    return float(torch.linalg.eigvalsh(s[:, None] * hessian * s[None])[-1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scales", [[0.1, 0.2, 1.0, 0.5], [1.0, 0.1, 0.01, 0.3], [0.0, 0.0, 0.5, 1.0]])
def test_the_largest_eigenvalue_is_that_of_the_explicit_hessian(scales: list[float], seed: int) -> None:
    network, batch = _line(), _batch()
    torch.manual_seed(seed)
    result = largest(lambda: _loss(network, batch), list(network.parameters()), scales)
    assert result == pytest.approx(_largest(network, batch, scales), rel=NEAR)


def test_of_a_parabola_it_is_exact() -> None:
    curvatures = torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64)
    w, b = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss() -> Tensor:
        return 0.5 * ((curvatures * w.square()).sum() + (3 * b.square()).sum())

    assert largest(loss, [w, b], [1.0, 1.0]) == pytest.approx(5, rel=1e-6)
    assert largest(loss, [w, b], [0.5, 2.0]) == pytest.approx(12, rel=1e-6)  # 3 * 2^2
    assert largest(loss, [w], [0.5]) == pytest.approx(1.25, rel=1e-6)


@pytest.mark.parametrize("signs", [(-1, -1, -1), (-1, 1, -1), (-1, 1, 1), (0, -1, -1)])
def test_the_largest_is_not_the_largest_in_size(signs: tuple[int, ...]) -> None:
    """A direction that curves down, however much, is none that steps overshoot in."""
    curvatures = torch.tensor([9.0, 2.0, 0.5], dtype=torch.float64) * torch.tensor(signs)
    w = torch.randn(3, dtype=torch.float64, requires_grad=True)
    result = largest(lambda: 0.5 * (curvatures * w.square()).sum(), [w], [1.0])
    assert result == pytest.approx(float(curvatures.max()), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_at_a_saddle_the_steepest_way_up_is_found(seed: int) -> None:
    """Deep networks with small weights start near saddles like this one, where curvatures are 3 and -3."""
    w = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(seed)
    assert largest(lambda: 3 * (w[0] * w[1]).sum(), [w], [1.0]) == pytest.approx(3, rel=1e-6)


def test_a_loss_without_curvature_has_none() -> None:
    w = torch.ones(3, requires_grad=True)
    assert largest(lambda: (0 * w.square()).sum(), [w], [1.0]) == 0
    assert largest(w.sum, [w], [1.0]) == 0, "a plane"
    assert largest(w.sum, [], []) == 0, "without parameters"


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("share", [0.5, 0.99, 1.01, 1.5])
def test_steps_shrink_below_the_limit_and_grow_above_it(momentum: float, share: float) -> None:
    rate, curvature = 0.01, share * limit(momentum) / 0.01
    w, v, sizes = 1.0, 0.0, []
    for _ in range(6000):
        v = momentum * v - rate * curvature * w
        w += v
        sizes.append(abs(w))
        if not 1e-9 < max(sizes[-9:]) < 1e9:
            break
    assert (max(sizes[-9:]) < 1e-3) == (share < 1)
    assert (max(sizes[-9:]) > 1e3) == (share > 1)


@pytest.mark.parametrize("share", [0.9, 1.1])
@pytest.mark.parametrize("make", [PublishedSGD, torch.optim.SGD])
def test_the_optimisers_shrink_below_the_limit_and_grow_above_it(make: Any, share: float) -> None:
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = make([w], lr=share * limit(0.9), momentum=0.9)
    for _ in range(300):
        optimizer.zero_grad()
        (0.5 * w.square()).sum().backward()
        optimizer.step()
    assert (float(w.detach().abs()) < 1) == (share < 1)


@pytest.mark.parametrize("make", [published, sgd])
@pytest.mark.parametrize(
    "more",
    [
        {"layers": {"1": SLOW}},
        {"bias_lr": 0.2, "layers": {"1": SLOW}},
        {"layers": {"3": {"lr": 9, "bias_lr": 0.5}, "1": SLOW}},
    ],
)
def test_each_parameter_counts_with_its_own_rate(make: Any, more: dict[str, Any]) -> None:
    network, batch = _line(), _batch()
    optimizer = make(network, 0.05, 0.9, 0.0, **more)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    scales = [rates[p] ** 0.5 for p in network.parameters()]
    expected = _largest(network, batch, scales)
    assert of_first_step(network, batch, optimizer) == pytest.approx(expected, rel=NEAR)


def test_frozen_parameters_do_not_count() -> None:
    network, batch = _line(), _batch()
    network[1].requires_grad_(False)
    frozen = of_first_step(network, batch, published(network, 0.05, 0.9, 0.0))
    still = published(network.requires_grad_(True), 0.05, 0.9, 0.0, layers={"1": {"lr": 0, "bias_lr": 0}})
    assert of_first_step(network, batch, still) == frozen
    assert frozen == pytest.approx(_largest(network, batch, [0, 0, 0.05**0.5, 0.05**0.5]), rel=NEAR)


def test_a_rate_of_zero_has_no_sharpness() -> None:
    network = _line()
    assert of_first_step(network, _batch(), published(network, 0.0, 0.9, 0.0)) == 0


def test_it_grows_with_the_rate_however_small() -> None:
    network, batch = _line(), _batch()
    low, high = (of_first_step(network, batch, published(network, rate, 0.9, 0.0)) for rate in (1e-10, 1.0))
    assert low == pytest.approx(1e-10 * high, rel=NEAR)


def _alexnet(dropout: Any, seed: int, behind: float = 1.0, **more: Any) -> AlexNet:
    """behind: factor on the std of the layers behind a dropout."""
    torch.manual_seed(seed)
    std = STD | dict.fromkeys(("fc7", "fc8"), behind * STD["default"])
    init = Gaussian(std, BIASES)
    return AlexNet(num_classes=3, crop_size=67, width=0.1, dropout=dropout, init=init, **more)


@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_everything_as_it_was(training: bool) -> None:
    network = _alexnet(PublishedDropout, 0, norm=nn.BatchNorm2d).train(training)
    images, labels = _batch(torch.float32, 67)
    optimizer = published(network, 0.01, 0.9, 0.0005)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(7)
    state, copy = torch.random.get_rng_state(), images.clone()
    first = of_first_step(network, (images, labels), optimizer)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training == training
    assert torch.equal(images, copy)
    assert not optimizer.state
    torch.rand(5)
    assert of_first_step(network, (images, labels), optimizer) == first, "it depends on random numbers"


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", range(3))
def test_inverted_dropout_is_steeper_and_its_correction_is_not(seed: int) -> None:
    images, labels = _batch(torch.float32, 67)
    batch = 40 * images, labels

    def result(network: AlexNet, factor: float = 1.0) -> float:
        layers = {name: {"lr": factor} for name in ("fc7", "fc8")}
        return of_first_step(network, batch, published(network, 0.01, 0.9, 0.0, layers=layers))

    ours = result(_alexnet(PublishedDropout, seed))
    assert ours > 0
    assert result(_alexnet(InvertedDropout, seed)) > 2 * ours
    assert result(_alexnet(InvertedDropout, seed, 0.5), 0.25) == pytest.approx(ours, rel=1e-4)


def test_a_larger_rate_is_nearer_to_overshooting() -> None:
    network = _alexnet(partial(PublishedDropout, 0.5), 0)
    batch = _batch(torch.float32, 67)
    low, high = (of_first_step(network, batch, published(network, rate, 0.9, 0.0)) for rate in (0.01, 0.1))
    assert high == pytest.approx(10 * low, rel=0.05)
