"""The compiled response normalisation against the formula in float64, on CPU and GPU."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alexnet.models.layers import LocalResponseNorm
from alexnet.ops import native
from alexnet.ops.response_norm import formula, response_norm, response_norm_backward, usable

SHAPES = [(2, 96, 9, 9), (1, 5, 3, 67), (3, 256, 4, 5), (1, 1, 1, 1)]
ORDERS = [torch.contiguous_format, torch.channels_last]
WINDOWS = [1, 3, 4, 5, 9]
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(native.library() is None, reason="no C++ compiler")),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def _formula(activations: Tensor, n: int, k: float, alpha: float) -> Tensor:
    """Each channel by itself, from the printed sum."""
    channels = activations.shape[1]
    made = []
    for i in range(channels):
        window = activations[:, max(0, i - n // 2) : min(channels, i + (n - 1) // 2 + 1)]
        made.append(activations[:, i] / (k + alpha * window.square().sum(1)) ** 0.75)
    return torch.stack(made, 1)


def _drawn(shape: tuple[int, ...], order: torch.memory_format, dtype: torch.dtype, device: str) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50
    return values.to(device, dtype).to(memory_format=order).requires_grad_()


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.cpu().double() - wanted).abs().max() / wanted.abs().max())


@pytest.mark.quick(8)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", WINDOWS)
def test_values_and_gradients_are_the_formulas(
    n: int, order: torch.memory_format, dtype: torch.dtype, limit: float, device: str
) -> None:
    for shape in SHAPES:
        activations = _drawn(shape, order, dtype, device)
        exact = activations.detach().cpu().double().requires_grad_()
        wanted = _formula(exact, n, 2.0, 1e-3)
        slope = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        (steepness,) = torch.autograd.grad(wanted, exact, slope.double())
        found = LocalResponseNorm(n, 2.0, 1e-3, divide_alpha_by_n=False)(activations)
        found.backward(slope.to(device))
        assert found.dtype == dtype
        assert activations.grad is not None
        assert _relative(found.detach(), wanted.detach()) < limit
        assert _relative(activations.grad, steepness) < limit


@pytest.mark.parametrize("device", DEVICES)
def test_the_compiled_code_is_what_runs_and_keeps_its_input_alone(device: str) -> None:
    kept: list[Tensor] = []
    activations = _drawn((2, 8, 5, 5), torch.contiguous_format, torch.float32, device)
    assert usable(activations, 0.75)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda x: x):
        LocalResponseNorm()(activations)
    assert [each.data_ptr() for each in kept] == [activations.data_ptr()]


@pytest.mark.parametrize("device", DEVICES)
def test_the_second_derivative_is_the_plain_formulas(device: str) -> None:
    def second(norm: LocalResponseNorm, compiled: bool) -> Tensor:
        activations = _drawn((2, 6, 3, 3), torch.contiguous_format, torch.float32, device)
        value = (norm if compiled else norm.plain)(activations).square().sum()
        (slope,) = torch.autograd.grad(value, activations, create_graph=True)
        (made,) = torch.autograd.grad(slope.sin().sum(), activations)
        return made

    norm = LocalResponseNorm(alpha=1e-3)
    torch.testing.assert_close(second(norm, True), second(norm, False), rtol=1e-4, atol=1e-6)


@pytest.fixture
def switched_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(native.SWITCH, "0")
    native.library.cache_clear()
    native.gpu.cache_clear()
    yield
    monkeypatch.undo()
    native.library.cache_clear()
    native.gpu.cache_clear()


def test_it_can_be_switched_off(switched_off: None) -> None:
    activations = _drawn((2, 8, 5, 5), torch.contiguous_format, torch.float32, "cpu")
    assert not usable(activations, 0.75)
    wanted = _formula(activations.detach().double(), 5, 2.0, 1e-4 / 5)
    assert _relative(LocalResponseNorm()(activations).detach(), wanted) < 1e-5


def test_without_a_compiler_torch_does_it(
    switched_off: None, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv(native.SWITCH)
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.library() is None
    assert LocalResponseNorm()(torch.ones(1, 4, 2, 2)).shape == (1, 4, 2, 2)


def test_what_it_does_not_take_goes_to_torch() -> None:
    four = torch.ones(1, 4, 2, 2)
    takes = [usable(each, 0.75) for each in (four.double(), four[0], four[:0], four.to("meta"))]
    assert not any([*takes, usable(four, 0.5)])


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
def test_any_number_of_threads_gives_the_same_bits() -> None:
    activations = _drawn((4, 96, 13, 13), torch.contiguous_format, torch.float32, "cpu").detach()
    before = torch.get_num_threads()
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made.append(LocalResponseNorm()(activations))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in itertools.pairwise(made))


def test_exports_and_compilers_see_torchs_operations() -> None:
    exported = torch.export.export(LocalResponseNorm(), (torch.ones(2, 8, 5, 5),))
    names = {str(node.target) for node in exported.graph.nodes}
    assert not any("autograd" in name.lower() for name in names)
    wanted = _formula(torch.ones(2, 8, 5, 5).double(), 5, 2.0, 1e-4 / 5)
    assert _relative(functional.relu(exported.module()(torch.ones(2, 8, 5, 5))), wanted) < 1e-5


@pytest.mark.quick(1)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # inside opcheck
def test_the_operators_keep_torchs_rules(order: torch.memory_format, device: str) -> None:
    """Fake tensors, autograd and compilation, as torch.library checks them."""
    activations = _drawn((2, 8, 5, 5), order, torch.float32, device)
    slope = torch.ones_like(activations)
    torch.library.opcheck(response_norm, (activations, 5, 2.0, 1e-3))
    torch.library.opcheck(response_norm_backward, (slope, activations, 5, 2.0, 1e-3))


def test_the_operators_second_derivative_is_the_formulas() -> None:
    def second(norm: Callable[..., Tensor]) -> Tensor:
        activations = _drawn((2, 6, 3, 3), torch.contiguous_format, torch.float32, "cpu")
        value = norm(activations, 5, 2.0, 1e-3).square().sum()
        (slope,) = torch.autograd.grad(value, activations, create_graph=True)
        return torch.autograd.grad(slope.sin().sum(), activations)[0]

    torch.testing.assert_close(second(response_norm), second(formula), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
@pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 compiles the formula: equal, and slower")
def test_a_compiled_network_keeps_the_operators() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    norm, activations = LocalResponseNorm(), torch.randn(2, 8, 5, 5)
    compiled = torch.compile(norm, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(activations), norm(activations))
    assert any("response_norm" in str(node.target) for graph in graphs for node in graph.graph.nodes)
