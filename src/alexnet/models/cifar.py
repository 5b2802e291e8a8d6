"""The authors' small networks for CIFAR-10, out of cuda-convnet's examples ("S").

Pools are 3x3 with stride 2; "local" layers have kernels of their own at each position. The 11% network is
the 13% one with response normalisation (P 3.3).
"""

from alexnet.models.alexnet import CLASSES, Layer

AVERAGED = ("activation", "average_pool")
TABLES = {
    "cifar_80sec": (
        Layer("conv1", 32, kernel=5, padding=2, then=("pool", "activation")),
        Layer("conv2", 32, kernel=5, padding=2, then=AVERAGED),
        Layer("conv3", 64, kernel=5, padding=2, then=AVERAGED),
        Layer("fc4", 64),
        Layer("fc5", CLASSES, then=()),
    ),
    "cifar_18pct": (
        Layer("conv1", 32, kernel=5, padding=2, then=("pool", "activation", "norm")),
        Layer("conv2", 32, kernel=5, padding=2, then=(*AVERAGED, "norm")),
        Layer("conv3", 64, kernel=5, padding=2, then=AVERAGED),
        Layer("fc4", CLASSES, then=()),
    ),
    "cifar_13pct": (
        Layer("conv1", 64, kernel=5, padding=2, then=("activation", "pool", "norm")),
        Layer("conv2", 64, kernel=5, padding=2, then=("activation", "norm", "pool")),
        Layer("local3", 32, kernel=3, padding=1, local=True),
        Layer("local4", 32, kernel=3, padding=1, local=True),
        Layer("fc5", CLASSES, then=()),
    ),
}
