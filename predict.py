"""Run a checkpoint on images: python predict.py checkpoint=PATH source=FOLDER."""

from engine.commands import predict

if __name__ == "__main__":
    predict()
