"""What the first layer sees: python src/kernels.py checkpoint=PATH, or runs=GLOB for several seeds."""

from alexnet.cli import start

if __name__ == "__main__":
    start("kernels")
