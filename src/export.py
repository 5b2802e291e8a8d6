"""A trained network for other programs: python src/export.py checkpoint=PATH [form=onnx]."""

from alexnet.cli import start

if __name__ == "__main__":
    start("export")
