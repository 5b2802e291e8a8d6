"""The authors' four small networks for CIFAR-10, out of cuda-convnet's examples ("S").

Pools are 3x3 with stride 2; "local" layers have kernels of their own at each position.
"""

from typing import Any

from alexnet.errors import check_choice
from alexnet.models.alexnet import AlexNet
from alexnet.models.table import CLASSES, Layer

AVERAGED = ("activation", "average_pool")
LOCALS = (
    Layer("local3", 32, kernel=3, padding=1, local=True),
    Layer("local4", 32, kernel=3, padding=1, local=True),
    Layer("fc5", CLASSES, then=()),
)
TABLES = {
    "80sec": (
        Layer("conv1", 32, kernel=5, padding=2, then=("pool", "activation")),
        Layer("conv2", 32, kernel=5, padding=2, then=AVERAGED),
        Layer("conv3", 64, kernel=5, padding=2, then=AVERAGED),
        Layer("fc4", 64),
        Layer("fc5", CLASSES, then=()),
    ),
    "18pct": (
        Layer("conv1", 32, kernel=5, padding=2, then=("pool", "activation", "norm")),
        Layer("conv2", 32, kernel=5, padding=2, then=(*AVERAGED, "norm")),
        Layer("conv3", 64, kernel=5, padding=2, then=AVERAGED),
        Layer("fc4", CLASSES, then=()),
    ),
    "13pct": (
        Layer("conv1", 64, kernel=5, padding=2, then=("activation", "pool", "norm")),
        Layer("conv2", 64, kernel=5, padding=2, then=("activation", "norm", "pool")),
        *LOCALS,
    ),
}


def cifar_net(net: str, **settings: Any) -> AlexNet:
    """One of TABLES as a network; settings as in AlexNet. 11pct is 13pct with norms (P 3.3).

    Raises UserError for an unknown name.
    """
    check_choice("model.net", net, TABLES)
    return AlexNet(table=TABLES[net], **settings)
