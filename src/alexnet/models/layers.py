"""The layers that torch lacks, and by which names configs choose activations, norms, pools and dropout."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.errors import UserError, check_choice, check_flag, check_range, check_whole
from alexnet.ops import response_norm, small_maps
from alexnet.registry import Registry

ACTIVATIONS = Registry("model.activation")
NORMS, SPATIAL_NORMS = Registry("model.norm"), Registry("model.spatial_norm")
POOLINGS = Registry("model.pooling")
DROPOUTS = Registry("model.dropout")
PART = 2**16  # units whose random bits are drawn at once, so that they stay in the processor's caches
SPATIAL_NORMS.parts = NORMS.parts  # the same norms, in a second place

ACTIVATIONS.register("relu")(lambda: nn.ReLU())  # P 3.1
ACTIVATIONS.register("tanh")(lambda: nn.Tanh())  # the class itself would take any setting
ACTIVATIONS.register("sigmoid")(lambda: nn.Sigmoid())
NORMS.register("batch")(nn.BatchNorm2d)  # Ioffe and Szegedy, 2015


@ACTIVATIONS.register("leaky_relu")
def leaky_relu(slope: float = 0.01) -> nn.LeakyReLU:
    """torch's, with this slope on the negative side; raises UserError for a slope below 0."""
    check_range("model.activation.slope", slope, 0)
    return nn.LeakyReLU(slope)


@ACTIVATIONS.register("scaled_tanh")
class ScaledTanh(nn.Module):
    """amplitude tanh(slope a): with these numbers 1 stays 1 and -1 stays -1 (LeCun et al. 1998, appendix A).

    Any shape in, the same shape out. Raises UserError for a number that is not positive.
    """

    def __init__(self, amplitude: float = 1.7159, slope: float = 2 / 3) -> None:
        super().__init__()
        check_range("model.activation.amplitude", amplitude, 1e-12)
        check_range("model.activation.slope", slope, 1e-12)
        self.amplitude, self.slope = amplitude, slope

    def forward(self, units: Tensor) -> Tensor:
        return self.amplitude * torch.tanh(self.slope * units)

    def extra_repr(self) -> str:
        return f"amplitude={self.amplitude}, slope={self.slope:g}"


@POOLINGS.register("max")
def max_pool(kernel_size: int = 3, stride: int = 2, padding: int = 0, ceil_mode: bool = True) -> nn.MaxPool2d:
    """P 3.4: windows of 3 every 2 pixels, counted with a ceiling as cuda-convnet does."""
    return nn.MaxPool2d(kernel_size, stride, padding, ceil_mode=ceil_mode)


def output_size(size: int, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = True) -> int:
    """Positions of a window along one side, counted with a ceiling as cuda-convnet does, or a floor.

    The last window may hang over the right or bottom edge (facts of the 2012 source), which is
    how 224 pixels under an 11x11 window with stride 4 give 55 positions.
    """
    way = size + 2 * padding - kernel
    return 1 + (-(-way // stride) if ceil_mode else way // stride)


class CeilConv2d(nn.Conv2d):
    """Convolution whose last windows hang over the right and bottom edge and read zeros there.

    (N, C, H, W) -> (N, maps, 1 + ceil((H + 2 padding - kernel) / stride), same for W).
    P prints 224 pixels and 55 positions; padding 3 zeros on two sides only is what the authors'
    source does. Where the windows fit exactly this is nn.Conv2d. On a GPU towers are convolved one by one:
    cuDNN 9's grouped kernel took half of a step of alexnet_lrn (131 px, batch 128, bfloat16, H100).
    """

    def forward(self, input: Tensor) -> Tensor:
        below, right = (self._overhang(input.shape[axis + 2], axis) for axis in (0, 1))
        padded = functional.pad(input, (0, right, 0, below)) if below or right else input
        if self.groups > 1 and padded.is_cuda:
            return self.by_tower(padded)
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        if small_maps.fits(padded, kernel, stride, padding):
            return small_maps.convolve(padded, self.weight, self.bias, padding, self.groups)
        return super().forward(padded)

    def by_tower(self, maps: Tensor) -> Tensor:
        """The same convolution, a group after the other: equal but for rounding."""
        biases = [None] * self.groups if self.bias is None else self.bias.chunk(self.groups)
        parts = zip(maps.chunk(self.groups, 1), self.weight.chunk(self.groups), biases, strict=True)
        return torch.cat(
            [functional.conv2d(*part, self.stride, self.padding, self.dilation) for part in parts], 1
        )

    def _overhang(self, size: int, axis: int) -> int:
        kernel, stride, padding = self.kernel_size[axis], self.stride[axis], int(self.padding[axis])
        positions = output_size(size, kernel, stride, padding)
        return max(0, (positions - 1) * stride + kernel - size - 2 * padding)


class LocallyConnected2d(nn.Module):
    """A convolution of stride 1 with kernels and biases of its own at each position.

    (N, C, H, W) -> (N, maps, size, size), where size = H + 2 padding - kernel + 1.
    weight: (size * size, C * kernel * kernel, maps); bias: (size * size, 1, maps).
    """

    def __init__(self, channels: int, maps: int, kernel: int, padding: int, size: int) -> None:
        super().__init__()
        self.channels, self.kernel, self.padding, self.size = channels, kernel, padding, size
        self.fan_in, self.fan_out = channels * kernel**2, maps * kernel**2
        self.weight = nn.Parameter(_uniform(size**2, self.fan_in, maps, fan_in=self.fan_in))
        self.bias = nn.Parameter(_uniform(size**2, 1, maps, fan_in=self.fan_in))

    def forward(self, maps: Tensor) -> Tensor:
        values = torch.baddbmm(self.bias, self._windows(maps), self.weight)  # (positions, N, maps)
        return values.permute(1, 2, 0).reshape(
            -1, values.shape[2], self.size, self.size
        )  # (N, maps, size, size)

    def _windows(self, maps: Tensor) -> Tensor:
        """What each position sees: (size * size, N, C * kernel * kernel).

        Slices with the places outermost are copied in long runs: functional.unfold, whose places are
        innermost and have to be moved outwards after it, takes the layer twice as long on a CPU.
        """
        places = functional.pad(maps, [self.padding] * 4).permute(2, 3, 0, 1).contiguous()  # (H, W, N, C)
        high, wide = (side - self.kernel + 1 for side in places.shape[:2])
        window = range(self.kernel)
        parts = [places[y : y + high, x : x + wide] for y in window for x in window]
        return torch.stack(parts, dim=-1).flatten(3).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.weight.shape[-1]}, kernel={self.kernel}, size={self.size}"


class PartialConv2d(nn.Module):
    """A convolution of stride 1 whose maps each see some of the maps below.

    (N, channels, H, W) -> (N, len(seen), H - kernel + 1, W - kernel + 1).
    seen: for each map, the channels that it sees; all of them together are the connections.
    weight: (connections, kernel, kernel), in the order of seen; bias: (maps,).
    """

    def __init__(self, channels: int, seen: Sequence[Sequence[int]], kernel: int) -> None:
        super().__init__()
        self.channels, self.kernel, self.out_channels = channels, kernel, len(seen)
        inputs = [kernel**2 * len(each) for each in seen]  # of a unit of each map
        self.fan_in, self.fan_out = sum(inputs) / len(seen), sum(inputs) / channels  # on average
        starts = [_uniform(len(each), kernel, kernel, fan_in=n) for each, n in zip(seen, inputs, strict=True)]
        self.weight = nn.Parameter(torch.cat(starts))
        self.bias = nn.Parameter(torch.cat([_uniform(1, fan_in=n) for n in inputs]))
        of_map = torch.tensor([at for at, each in enumerate(seen) for _ in each])
        of_channel = torch.tensor([channel for each in seen for channel in each])
        places = torch.full((len(seen), channels), len(of_map))  # where there is none: behind the last
        places[of_map, of_channel] = torch.arange(len(of_map))
        self.inputs: Tensor
        self.of_map: Tensor
        self.places: Tensor
        for name, buffer in (("inputs", torch.tensor(inputs)), ("of_map", of_map), ("places", places)):
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        none = self.weight.new_zeros(1, self.kernel, self.kernel)
        return functional.conv2d(maps, torch.cat([self.weight, none])[self.places], self.bias)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.out_channels}, kernel={self.kernel}, connections={len(self.weight)}"


class Subsampling(nn.Module):
    """The sum of 2x2 pixels, times a coefficient, plus a bias, both of the map (LeCun et al. 1998, II.B).

    (N, maps, H, W) -> (N, maps, H // 2, W // 2). weight, bias: (maps,); they start as the mean of the pixels.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.fan_in = 4
        self.weight = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, maps: Tensor) -> Tensor:
        sums = functional.avg_pool2d(maps, 2) * 4
        return sums * self.weight[:, None, None] + self.bias[:, None, None]

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class GlobalAverage(nn.Module):
    """The mean of each map: (N, C, H, W) -> (N, C)  (Lin, Chen and Yan 2013, section 3.2)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class TowerLinear(nn.Module):
    """A fully connected layer in towers that don't see each other: (N, inputs) -> (N, units).

    weight: (towers, inputs / towers, units / towers); bias: (units,).
    """

    def __init__(self, inputs: int, units: int, towers: int) -> None:
        super().__init__()
        self.towers, self.fan_in, self.fan_out = towers, inputs // towers, units // towers
        self.weight = nn.Parameter(_uniform(towers, self.fan_in, units // towers, fan_in=self.fan_in))
        self.bias = nn.Parameter(_uniform(units, fan_in=self.fan_in))

    def forward(self, units: Tensor) -> Tensor:
        inputs = units.reshape(-1, self.towers, self.fan_in)  # (N, towers, inputs / towers)
        return torch.einsum("nti,tiu->ntu", inputs, self.weight).flatten(1) + self.bias

    def extra_repr(self) -> str:
        return f"{self.towers} x ({self.fan_in} -> {self.weight.shape[-1]})"


def _uniform(*shape: int, fan_in: int) -> Tensor:
    """As torch starts its own layers: within 1 / sqrt(inputs of a unit)."""
    return torch.empty(*shape).uniform_(-(fan_in**-0.5), fan_in**-0.5)


@NORMS.register("lrn")
class LocalResponseNorm(nn.Module):
    """b_i = a_i / (k + alpha * sum over n neighbouring channels of a_j^2)^beta  (P 3.3).

    (N, C, ...) -> the same shape and dtype, computed in float32 or wider.

    Channel i sees i - n//2 ... i + (n - 1)//2, clipped at the ends: the paper's window for odd n,
    the 2012 source's and torch's for even n. divide_alpha_by_n=True is the source's reading (and
    Caffe's and torch's), False the printed formula. towers=2: a window keeps to its own half of the
    channels, as two GPUs that don't exchange their maps have to; 1: across, as Caffe's.

    Raises UserError for n < 1, or constants for which the base could become 0 or negative.
    """

    def __init__(
        self,
        n: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        divide_alpha_by_n: bool = True,
        towers: int = 1,
    ) -> None:
        super().__init__()
        check_whole("model.norm.n", n, 1)
        check_choice("model.norm.towers", towers, (1, 2))
        check_range("model.norm.k", k, 1e-12)
        check_range("model.norm.alpha", alpha, 0)
        check_range("model.norm.beta", beta, 0)
        check_flag("model.norm.divide_alpha_by_n", divide_alpha_by_n)
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta
        self.divide_alpha_by_n, self.towers = divide_alpha_by_n, towers

    def forward(self, activations: Tensor) -> Tensor:
        if activations.shape[1] % self.towers:
            raise UserError(
                f"model.norm.towers=2 is not possible: {activations.shape[1]} maps can't be halved."
            )
        if self.towers > 1:  # (N, C, ...) -> (N * towers, C / towers, ...) and back
            apart = activations.reshape(-1, activations.shape[1] // self.towers, *activations.shape[2:])
            return self._normed(apart).reshape(activations.shape)
        return self._normed(activations)

    def _normed(self, activations: Tensor) -> Tensor:
        return response_norm.normalise(activations, self.n, self.k, self.effective_alpha, self.beta)

    def plain(self, activations: Tensor) -> Tensor:
        """The formula in torch's operations."""
        return response_norm.formula(activations, self.n, self.k, self.effective_alpha, self.beta)

    @property
    def effective_alpha(self) -> float:
        """What each square is multiplied by."""
        return self.alpha / self.window if self.divide_alpha_by_n else self.alpha

    @property
    def window(self) -> int:
        """How many squares are summed, away from the ends."""
        return self.n

    def extra_repr(self) -> str:
        divided = "/n" if self.divide_alpha_by_n else ""
        return f"n={self.n}, k={self.k}, alpha={self.alpha}{divided}, beta={self.beta}"


@NORMS.register("spatial")
class SpatialResponseNorm(LocalResponseNorm):
    """b = a / (k + alpha * sum of a^2 over n x n neighbouring pixels of the same map)^beta.

    (N, C, H, W) -> the same shape and dtype. The second norm of layer 2 in the 2012 source (window
    5x5, experiment 145) and the norm of its small nets (3x3); alpha is divided by n * n there.
    Other settings and errors are those of LocalResponseNorm.
    """

    def _normed(self, activations: Tensor) -> Tensor:
        return self.plain(activations)

    def plain(self, activations: Tensor) -> Tensor:
        """The formula in torch's operations."""
        wide = activations.to(torch.promote_types(activations.dtype, torch.float32))
        before, after = self.n // 2, (self.n - 1) // 2
        padded = functional.pad(wide.square(), (before, after, before, after))
        if torch.compiler.is_exporting():  # torch.onnx passes over divisor_override
            squares = functional.avg_pool2d(padded, self.n, stride=1) * self.window
        else:
            squares = functional.avg_pool2d(padded, self.n, stride=1, divisor_override=1)
        return (wide * (self.k + self.effective_alpha * squares).pow(-self.beta)).to(activations.dtype)

    @property
    def window(self) -> int:
        return self.n**2


class Dropout(nn.Module):
    """Zeroes units in training, each with probability rate. Any shape in, the same shape out.

    part: of a step that computes its batch in parts, where the images of the next pass begin and how many
    the whole batch has. The masks of the whole are drawn with its first part, so that parts change nothing;
    None: each pass is a whole batch.

    Raises UserError for a rate outside 0 <= rate < 1.
    """

    part: tuple[int, int] | None = None
    leaves_out = False  # whole layers, whose weights then have no gradient

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        check_range("model.dropout.rate", rate, 0.0, 1.0)
        self.rate = rate
        self.masks: Tensor | None = None

    def forward(self, units: Tensor) -> Tensor:
        if not self.training:
            return self.at_test(units)
        return self.dropped(units) if self.part is None else self._dropped_in_part(units)

    def dropped(self, units: Tensor) -> Tensor:
        """What training makes of a whole batch."""
        raise NotImplementedError

    def at_test(self, units: Tensor) -> Tensor:
        """What evaluation makes of it."""
        raise NotImplementedError

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # or each part would be compiled anew
    def _dropped_in_part(self, units: Tensor) -> Tensor:
        assert self.part is not None
        first, whole = self.part
        last = first + len(units)
        if self.masks is None:
            shape, strides = (whole, *units.shape[1:]), units.stride()
            ones = torch.empty_strided(shape, strides, dtype=units.dtype, device=units.device).fill_(1)
            self.masks = self.dropped(ones)
        dropped = units * self.masks[first:last]
        if last >= whole:
            self.masks = None
        return dropped

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def mask(units: Tensor, share: float) -> Tensor:
    """Like units, each 1 with probability share, else 0: the very draws of bernoulli_."""
    values = torch.empty_like(units)
    if not by_bits(units):
        return values.bernoulli_(share)
    return _compared_bits(values, share, torch.default_generator)


def by_bits(units: Tensor) -> bool:
    """Whether a mask for them is drawn in a way of ours, which takes less than half of bernoulli_'s time."""
    return units.is_cpu and not torch.compiler.is_compiling() and _bernoulli_compares_bits()


def _compared_bits(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Fills values as bernoulli_ does one by one: 53 of 64 random bits, compared with the share of them."""
    in_memory = values.as_strided((values.numel(),), (1,))  # is their order
    for part in in_memory.split(PART):  # type: ignore[no-untyped-call]
        bits = torch.empty(len(part), dtype=torch.int64).random_(generator=generator)
        part.copy_(bits.bitwise_and_(2**53 - 1) < math.ceil(share * 2**53))
    return values


@functools.cache
def _bernoulli_compares_bits() -> bool:
    """Not on Intel's processors, where torch takes MKL's generator, which is fast."""
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    ours = _compared_bits(torch.empty(1000), 0.3, generators[0])
    return torch.equal(ours, torch.empty(1000).bernoulli_(0.3, generator=generators[1]))


@DROPOUTS.register("published")
class PublishedDropout(Dropout):
    """Dropout as P 4.2 has it: units are zeroed in training, and scaled by 1 - rate at test.

    The other kind scales the kept units by 1/(1 - rate) in training, which is the same function only if
    the next layer's weights are scaled too.
    """

    def dropped(self, units: Tensor) -> Tensor:
        return units * mask(units, 1 - self.rate)

    def at_test(self, units: Tensor) -> Tensor:
        return units * (1 - self.rate)


@DROPOUTS.register("inverted")
class InvertedDropout(Dropout):
    """torch's dropout: kept units are scaled by 1/(1 - rate) in training, and left alone at test."""

    def dropped(self, units: Tensor) -> Tensor:
        if not self.rate or not by_bits(units):
            return functional.dropout(units, self.rate)
        return units * mask(units, 1 - self.rate).div_(1 - self.rate)

    def at_test(self, units: Tensor) -> Tensor:
        return units
