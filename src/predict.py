"""The classes a network predicts: python src/predict.py checkpoint=PATH images='FOLDER/*.jpg'."""

from alexnet.cli import start

if __name__ == "__main__":
    start("predict")
