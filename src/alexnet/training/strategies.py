"""How the processes of a run share its work: Lightning's strategies, and the paper's own."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.optim import Optimizer

from alexnet.models import parallel


class TowersStrategy(DDPStrategy):
    """Two processes with a tower each, and both with the whole of every batch.

    Gradients are exchanged in the network itself; checkpoints are those of the whole network.
    """

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"rank": 0, "num_replicas": 1}

    def _setup_model(self, model: nn.Module) -> Any:
        return model  # not wrapped in DDP, which would take the mean of two towers' gradients

    def setup(self, trainer: Trainer) -> None:
        super(DDPStrategy, self).setup(trainer)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return parallel.whole_state(super().lightning_module_state_dict())

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        state = parallel.half_state(checkpoint["state_dict"], self.global_rank)
        super().load_model_state_dict({"state_dict": state}, strict)

    def optimizer_state(self, optimizer: Optimizer) -> Any:
        state: Any = super().optimizer_state(optimizer)
        kept = {
            index: {name: parallel.whole(value) for name, value in of_weight.items()}
            for index, of_weight in state["state"].items()
        }
        return {**state, "state": kept}

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        states = []
        for state in checkpoint["optimizer_states"]:
            kept = {
                index: {name: parallel.half(value, self.global_rank) for name, value in of_weight.items()}
                for index, of_weight in state["state"].items()
            }
            states.append({**state, "state": kept})
        super().load_optimizer_state_dict({"optimizer_states": states})


def loss_factor(trainer: Trainer) -> float:
    """On a process's mean loss and share of the images, for gradients of the mean over all images."""
    if isinstance(trainer.strategy, TowersStrategy):
        return 1 / parallel.TOWERS  # each has the loss of all images, and their gradients are added up
    return trainer.world_size  # of which DDP takes the mean


def of_all(strategy: Strategy, weights: int) -> int:
    """How many weights the network has, of which this process has so many."""
    return weights * parallel.TOWERS if isinstance(strategy, TowersStrategy) else weights


def shapes(strategy: Strategy, state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Of what a checkpoint holds where this process has such a state."""
    made = {name: value.shape for name, value in state.items()}
    if isinstance(strategy, TowersStrategy):
        own = [name for name in made if name.startswith(parallel.NETWORK)]
        made |= {name: torch.Size((parallel.TOWERS * made[name][0], *made[name][1:])) for name in own}
    return made
