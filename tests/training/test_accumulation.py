"""A step that computes its batch in parts, by trainer.accumulate_grad_batches, is that of the whole batch."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from alexnet.models.layers import InvertedDropout, PublishedDropout
from alexnet.training.classifier import Classifier
from alexnet.training.optim import published
from tiny import quiet_trainer


def trained(dropout: type[nn.Module], images: int, size: int, parts: int, **settings: object) -> Tensor:
    """All weights after three epochs in double precision."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(64, 3, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (64,), generator=generator)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), dropout(0.2), nn.Linear(48, 32), nn.Tanh(), dropout(0.5), nn.Linear(32, 5)
    )
    optimizer = partial(published, lr=0.1, momentum=0.9, weight_decay=0.001)
    trainer = quiet_trainer(max_epochs=3, precision="64-true", accumulate_grad_batches=parts, **settings)
    trainer.fit(
        Classifier(network, 5, optimizer), DataLoader(TensorDataset(pixels[:images], labels[:images]), size)
    )
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*many workers", "ignore:.*logging interval", "ignore:.*`val_dataloader`"
)
same = partial(torch.allclose, rtol=1e-12, atol=1e-14)


@pytest.mark.quick(2)
@pytest.mark.parametrize("dropout", [PublishedDropout, InvertedDropout])
@pytest.mark.parametrize("images", [64, 57, 50])  # the last step has 16 images; 8 and 1; 2, in one part
def test_two_batches_of_8_are_one_of_16(images: int, dropout: type[nn.Module]) -> None:
    whole = trained(dropout, images, 16, 1)
    assert same(trained(dropout, images, 8, 2), whole)
    assert same(trained(dropout, images, 5, 3), trained(dropout, images, 15, 1))
    assert not same(trained(dropout, images, 8, 1), whole)


def test_an_epoch_cut_short_ends_with_a_smaller_step() -> None:
    cut = trained(PublishedDropout, 64, 8, 2, limit_train_batches=3)
    assert same(cut, trained(PublishedDropout, 24, 16, 1))
