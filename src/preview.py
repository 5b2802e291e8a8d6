"""Pictures of a data set as the network sees it: python src/preview.py data=NAME; prints their paths."""

from alexnet.cli import start

if __name__ == "__main__":
    start("preview")
