"""The layers of AlexNet that torch lacks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.errors import check_flag, check_range, check_whole


def output_size(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Positions of a window along one side, counted with a ceiling as cuda-convnet does.

    The last window may hang over the right or bottom edge (facts of the 2012 source), which is
    how 224 pixels under an 11x11 window with stride 4 give 55 positions.
    """
    return 1 + -(-(size + 2 * padding - kernel) // stride)


class CeilConv2d(nn.Conv2d):
    """Convolution whose last windows hang over the right and bottom edge and read zeros there.

    (N, C, H, W) -> (N, maps, 1 + ceil((H + 2 padding - kernel) / stride), same for W).
    P prints 224 pixels and 55 positions; padding 3 zeros on two sides only is what the authors'
    source does. Where the windows fit exactly this is nn.Conv2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        below, right = (self._overhang(input.shape[axis + 2], axis) for axis in (0, 1))
        padded = functional.pad(input, (0, right, 0, below)) if below or right else input
        return super().forward(padded)

    def _overhang(self, size: int, axis: int) -> int:
        kernel, stride, padding = self.kernel_size[axis], self.stride[axis], int(self.padding[axis])
        positions = output_size(size, kernel, stride, padding)
        return max(0, (positions - 1) * stride + kernel - size - 2 * padding)


class LocalResponseNorm(nn.Module):
    """b_i = a_i / (k + alpha * sum over n neighbouring channels of a_j^2)^beta  (P 3.3).

    (N, C, ...) -> the same shape and dtype, computed in float32 or wider.

    Channel i sees i - n//2 ... i + (n - 1)//2, clipped at the ends: the paper's window for odd n,
    the 2012 source's and torch's for even n. divide_alpha_by_n=True is the source's reading (and
    Caffe's and torch's), False the printed formula.

    Raises UserError for n < 1, or constants for which the base could become 0 or negative.
    """

    def __init__(
        self,
        n: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        divide_alpha_by_n: bool = True,
    ) -> None:
        super().__init__()
        check_whole("model.norm.n", n, 1)
        check_range("model.norm.k", k, 1e-12)
        check_range("model.norm.alpha", alpha, 0)
        check_range("model.norm.beta", beta, 0)
        check_flag("model.norm.divide_alpha_by_n", divide_alpha_by_n)
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta
        self.divide_alpha_by_n = divide_alpha_by_n

    def forward(self, activations: Tensor) -> Tensor:
        wide = activations.to(torch.promote_types(activations.dtype, torch.float32))
        alpha = self.alpha / self.n if self.divide_alpha_by_n else self.alpha
        scale = (self.k + alpha * self._window_sum(wide.square())).pow(-self.beta)
        return (wide * scale).to(activations.dtype)

    def _window_sum(self, squares: Tensor) -> Tensor:
        channels = squares.shape[1]
        ends = [0, 0] * (squares.dim() - 2) + [self.n // 2, (self.n - 1) // 2]
        padded = functional.pad(squares, ends)  # (N, C + n - 1, ...)
        total = padded[:, :channels]
        for start in range(1, self.n):
            total = total + padded[:, start : start + channels]
        return total

    def extra_repr(self) -> str:
        divided = "/n" if self.divide_alpha_by_n else ""
        return f"n={self.n}, k={self.k}, alpha={self.alpha}{divided}, beta={self.beta}"


class PublishedDropout(nn.Module):
    """Dropout as P 4.2 has it: units are zeroed in training, and scaled by 1 - rate at test.

    Any shape in, the same shape out. nn.Dropout instead scales the kept units by 1/(1 - rate) in
    training, which is the same function only if the next layer's weights are scaled too.

    Raises UserError for a rate outside 0 <= rate < 1.
    """

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        check_range("model.dropout.rate", rate, 0.0, 1.0)
        self.rate = rate

    def forward(self, units: Tensor) -> Tensor:
        if not self.training:
            return units * (1 - self.rate)
        return units * torch.empty_like(units).bernoulli_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def inverted_dropout(rate: float = 0.5) -> nn.Dropout:
    """torch's dropout; raises UserError for a rate outside 0 <= rate < 1."""
    check_range("model.dropout.rate", rate, 0.0, 1.0)
    return nn.Dropout(rate)
