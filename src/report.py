"""The claims' verdicts, as a page and a table: python src/report.py."""

from alexnet.cli import start

if __name__ == "__main__":
    start("report")
