"""Which blocks a step of training computes is a function of seed and step, whatever else the run is."""

from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from alexnet.models import create_model
from alexnet.models.resnet import Block
from alexnet.training.classifier import Classifier
from alexnet.training.optim import sgd
from tiny import quiet_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*many workers", "ignore:.*logging interval", "ignore:.*`val_dataloader`"
)


def _computed(size: int, parts: int = 1, seed: int = 0, drawn: int = 0) -> list[tuple[int, ...]]:
    """Of each pass of two epochs of 16 images, the numbers of the blocks that were computed.

    drawn: numbers that torch's generator gave before.
    """
    network = create_model("resnet", 5, 4, blocks=(3, 2), width=0.25, survival=0.2)
    passes: list[list[int]] = []
    network.register_forward_pre_hook(lambda *_: passes.append([]))
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    for number, block in enumerate(blocks, 1):
        block.branch.register_forward_hook(lambda *_, number=number: passes[-1].append(number))
    torch.rand(drawn)
    trainer = quiet_trainer(max_epochs=2, accumulate_grad_batches=parts)
    images = TensorDataset(torch.randn(16, 3, 4, 4), torch.arange(16) % 5)
    optimizer = partial(sgd, lr=0.01, momentum=0.9, weight_decay=0.0)
    trainer.fit(Classifier(network, 5, optimizer, seed=seed), DataLoader(images, size))
    return [tuple(each) for each in passes]


def test_blocks_are_a_function_of_seed_and_step() -> None:
    whole = _computed(4)
    assert len(whole) == 8
    assert len(set(whole)) > 3
    assert _computed(4, drawn=99) == whole
    assert _computed(8) == whole[:4], "nor do they depend on the batch"
    assert _computed(4, seed=1) != whole


@pytest.mark.parametrize(("size", "parts"), [(2, 2), (1, 4), (3, 2)])
def test_the_parts_of_a_step_share_its_blocks(size: int, parts: int) -> None:
    whole = _computed(4, seed=3)
    passes = _computed(size, parts, seed=3)
    batches = -(-16 // size)  # of an epoch; the last step may have fewer parts
    starts = range(0, batches, parts)
    steps = [start for epoch in (0, batches) for start in (epoch + each for each in starts)]
    assert [passes[start] for start in steps] == whole[: len(steps)]
    for start, end in zip(steps, [*steps[1:], len(passes)], strict=True):
        assert len(set(passes[start:end])) == 1
