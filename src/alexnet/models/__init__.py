"""Networks: AlexNet, its variants and relatives, their initialisation, and their common interface.

Loaded when first used: torch is not imported before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet.models.alexnet import AlexNet
    from alexnet.models.contract import (
        Outputs,
        feature,
        first_kernels,
        head,
        layer_names,
        logits_and_auxiliary,
        shown,
        towers,
        weighted_layers,
    )
    from alexnet.models.registry import (
        check_batch_of_one,
        create_model,
        from_config,
        list_models,
        without_memory,
    )

# of a network, for one image: alexnet.models.summary.cost(); what a computed claim compares
COSTS = ("parameters", "parameters_at_test", "multiply_adds", "activation_bytes")

__all__ = [
    "COSTS",
    "AlexNet",
    "Outputs",
    "check_batch_of_one",
    "create_model",
    "feature",
    "first_kernels",
    "from_config",
    "head",
    "layer_names",
    "list_models",
    "logits_and_auxiliary",
    "shown",
    "towers",
    "weighted_layers",
    "without_memory",
]
REGISTRY = ("check_batch_of_one", "create_model", "from_config", "list_models", "without_memory")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "registry" if name in REGISTRY else "alexnet" if name == "AlexNet" else "contract"
    return getattr(import_module(f"{__name__}.{module}"), name)
