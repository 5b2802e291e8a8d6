"""The compiled update of weights against torch's operations, bit for bit, and against float64."""

import pytest
import torch
from torch import Tensor

from alexnet.ops import native
from alexnet.training.optim import PublishedSGD

LR, MOMENTUM, DECAY = 0.0123, 0.9, 0.0005
compiled = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")


def _drawn(shape: tuple[int, ...], order: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    """Weights, velocities and gradients."""
    generator = torch.Generator().manual_seed(sum(shape))
    scales = (0.01, 1e-3, 1e-2)
    return [scale * torch.randn(shape, generator=generator).to(memory_format=order) for scale in scales]


def _by_torch(w: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    v = v.mul(MOMENTUM).add(w, alpha=-DECAY * LR).add(g, alpha=-LR)
    return w + v, v


def _updated(w: Tensor, v: Tensor, g: Tensor) -> bool:
    return native.sgd(w, v, g, MOMENTUM, -DECAY * LR, -LR)


@compiled
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (33,), (100, 1003), (24, 6, 3, 3), (5, 7, 1, 1)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_gives_torchs_bits_with_any_number_of_threads(shape: tuple[int, ...], threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for order in (torch.contiguous_format, torch.channels_last)[: 1 + (len(shape) == 4)]:
        w, v, g = _drawn(shape, order)
        expected = _by_torch(w, v, g)
        exact_w, exact_v = _by_torch(w.double(), v.double(), g.double())
        assert _updated(w, v, g)
        assert torch.equal(w, expected[0])
        assert torch.equal(v, expected[1])
        assert torch.allclose(w.double(), exact_w, rtol=2e-7, atol=1e-9)
        assert torch.allclose(v.double(), exact_v, rtol=2e-7, atol=1e-9)
    torch.set_num_threads(before)


@compiled
def test_autograd_notices_the_change() -> None:
    w, v, g = _drawn((4, 4))
    w.requires_grad_()
    loss = w.square().sum()
    with torch.no_grad():
        _updated(w, v, g)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_it_does_not_take_is_left_as_it_was() -> None:
    w, v, g = _drawn((6, 4))
    with_gaps, crossed = (tensor[:, ::2] for tensor in (w, v)), (w, v, g.t().contiguous().t())
    sparse = (w, v, g.to_sparse())
    for tensors in ([each.double() for each in (w, v, g)], (*with_gaps, g[:, ::2]), crossed, sparse):
        before = [each.clone() for each in tensors]
        assert not _updated(*tensors)
        assert all(
            torch.equal(each.to_dense(), old.to_dense()) for each, old in zip(tensors, before, strict=True)
        )


@compiled
@pytest.mark.parametrize("taken", ["all", "none", "weights"])
def test_the_optimiser_gives_the_same_bits_without_it(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> dict[str, Tensor]:
        w, _, g = _drawn((30, 20))
        bias = torch.nn.Parameter(w[0].clone())
        weight = torch.nn.Parameter(w)
        optimizer = PublishedSGD([{"params": [weight, bias], "weight_decay": DECAY}], LR, MOMENTUM)
        for step in range(5):
            weight.grad, bias.grad = g * step, g[step].clone()
            optimizer.step()
        states = {
            f"velocity {place}": optimizer.state[w]["velocity"] for place, w in enumerate((weight, bias))
        }
        return {"weight": weight.detach(), "bias": bias.detach(), **states}

    expected, update = trained(), native.sgd
    takes = {"all": lambda w: True, "none": lambda w: False, "weights": lambda w: w.dim() > 1}[taken]
    monkeypatch.setattr(native, "sgd", lambda w, *more: takes(w) and update(w, *more))
    found = trained()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
