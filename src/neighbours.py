"""Nearest training images (fig. 4 of P): python src/neighbours.py checkpoint=PATH [queries=8] [split=val]."""

from alexnet.cli import start

if __name__ == "__main__":
    start("neighbours")
