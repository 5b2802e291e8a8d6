"""Times this project against the usual code: python src/benchmark.py [suite=NAME] [format=json]."""

from alexnet.cli import start

if __name__ == "__main__":
    start("benchmark")
