"""Hydra's sweeper for this project: shows its plan, trains no run twice, goes on after a failing one.

Hydra looks for plugins in packages of this name. Other sweepers and launchers take its place, or work
below it, by Hydra's usual override.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="planned",
    node={"_target_": "hydra_plugins.alexnet_sweeper.PlannedSweeper", "max_batch_size": None, "params": None},
)


class PlannedSweeper(BasicSweeper):
    """What is swept is as in Hydra's own sweeper, or what a claim file says."""

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Trains what is not finished; raises UserError at the end if runs failed."""
        from alexnet.cli import sweep as sweeping  # late: Hydra imports all plugins at each start

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        loader = self.hydra_context.config_loader
        return sweeping.sweep([*self._parse_config(), *arguments], self.config, loader, self.launcher)
