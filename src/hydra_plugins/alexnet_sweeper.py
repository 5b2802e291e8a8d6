"""Where Hydra looks for sweepers: see alexnet.cli.sweeper. Others take its place by hydra/sweeper=NAME."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="planned",
    node={"_target_": "hydra_plugins.alexnet_sweeper.PlannedSweeper", "params": None},
)


class PlannedSweeper(Sweeper):
    """Shows its plan, trains no run twice, goes on after a failing one.

    params: overrides that come before those of the command line, as in Hydra's own sweeper.
    """

    launcher: Launcher
    context: HydraContext
    config: DictConfig

    def __init__(self, params: dict[str, str] | None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Trains what is not finished; raises UserError at the end if runs failed."""
        from alexnet.cli import sweeper  # late: Hydra imports all plugins at each start

        first = [f"{key}={value}" for key, value in self.params.items()]
        return sweeper.sweep([*first, *arguments], self.config, self.context.config_loader, self.launcher)
