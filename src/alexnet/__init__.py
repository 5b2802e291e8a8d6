"""The AlexNet paper (Krizhevsky, Sutskever, Hinton, 2012), its network and its claims.

    import alexnet

    run = alexnet.fit("alexnet_lrn", data="demo", epochs=2)
    net = alexnet.load(run.directory)
    net.errors("val", crops=10)

Everything here is imported when it is first used, so that `import alexnet` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet.api import fit, load
    from alexnet.data.datamodule import ImageData
    from alexnet.models import create_model, list_models
    from alexnet.models.alexnet import AlexNet
    from alexnet.training.classifier import Classifier

__all__ = ["AlexNet", "Classifier", "ImageData", "create_model", "fit", "list_models", "load"]

_MODULES = {
    "AlexNet": "alexnet.models.alexnet",
    "Classifier": "alexnet.training.classifier",
    "ImageData": "alexnet.data.datamodule",
    "create_model": "alexnet.models",
    "fit": "alexnet.api",
    "list_models": "alexnet.models",
    "load": "alexnet.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
