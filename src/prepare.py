"""Decodes all images of a data set once: python src/prepare.py data=NAME [data.pack=PATH] [form=jpeg]."""

from alexnet.cli import start

if __name__ == "__main__":
    start("prepare")
