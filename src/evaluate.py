"""Errors of trained networks: python src/evaluate.py checkpoint=PATH [crops=10] [split=val] [format=json]."""

from alexnet.cli import start

if __name__ == "__main__":
    start("evaluate")
