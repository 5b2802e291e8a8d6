"""Keeps the results of runs as small files: python src/record.py 'runs="outputs/*"' out=DIRECTORY."""

from alexnet.cli import start

if __name__ == "__main__":
    start("record")
