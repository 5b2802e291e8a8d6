"""Weights of Caffe or torchvision as a checkpoint: python src/convert.py weights=FILE model=NAME out=FILE."""

from alexnet.cli import start

if __name__ == "__main__":
    start("convert")
