"""The project's dashboard at Weights & Biases: python src/dashboard.py [project=NAME] [entity=NAME]."""

from alexnet.cli import start

if __name__ == "__main__":
    start("dashboard")
