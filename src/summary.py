"""Prints a network layer by layer: python src/summary.py model=NAME [format=json]. Needs no data."""

from alexnet.cli import start

if __name__ == "__main__":
    start("summary")
