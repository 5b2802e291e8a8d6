"""What a trained network takes images for: python src/predict.py checkpoint=PATH images='FOLDER/*.jpg'."""

from alexnet.cli.app import start

if __name__ == "__main__":
    start("predict")
