"""Train a classifier or a detector: python train.py model=ssd_resnet34 loss=focal."""

from engine.commands import train

if __name__ == "__main__":
    train()
