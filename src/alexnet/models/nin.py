"""Network in network (Lin, Chen and Yan, arXiv 1312.4400, 2013), as tables for AlexNet's class.

A block is a convolution and two 1x1 convolutions, each with its activation: a small perceptron at each
position (section 3.1). The last one's maps, averaged, are the logits (3.2). Pools are 3x3 with stride 2.
"""

from alexnet.models.alexnet import CLASSES, GLOBAL_AVERAGE, Layer

END = ("activation", GLOBAL_AVERAGE)
TABLES = {
    "nin": (  # CIFAR: sizes of images 3x32x32 behind each block, pooled
        Layer("conv1", 192, kernel=5, padding=2),
        Layer("conv2", 160, kernel=1),
        Layer("conv3", 96, kernel=1, then=("activation", "pool", "dropout")),  # 96x16x16
        Layer("conv4", 192, kernel=5, padding=2),
        Layer("conv5", 192, kernel=1),
        Layer("conv6", 192, kernel=1, then=("activation", "average_pool", "dropout")),  # 192x8x8
        Layer("conv7", 192, kernel=3, padding=1),
        Layer("conv8", 192, kernel=1),
        Layer("conv9", CLASSES, kernel=1, then=END),
    ),
    "nin_imagenet": (  # the authors' model for Caffe: sizes of images 3x224x224
        Layer("conv1", 96, kernel=11, stride=4),  # 96x54x54, counted with a floor
        Layer("conv2", 96, kernel=1),
        Layer("conv3", 96, kernel=1, then=("activation", "pool")),  # 96x27x27
        Layer("conv4", 256, kernel=5, padding=2),
        Layer("conv5", 256, kernel=1),
        Layer("conv6", 256, kernel=1, then=("activation", "pool")),  # 256x13x13
        Layer("conv7", 384, kernel=3, padding=1),
        Layer("conv8", 384, kernel=1),
        Layer("conv9", 384, kernel=1, then=("activation", "pool", "dropout")),  # 384x6x6
        Layer("conv10", 1024, kernel=3, padding=1),
        Layer("conv11", 1024, kernel=1),
        Layer("conv12", CLASSES, kernel=1, then=END),
    ),
}
