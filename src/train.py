"""Trains one network: python src/train.py [group=choice] [key=value]; --help lists them."""

from alexnet.cli import start

if __name__ == "__main__":
    start("train")
