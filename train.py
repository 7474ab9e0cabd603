"""Train a classifier or a detector: python train.py model=ssd_resnet34 loss=focal."""

from typing import Any

from engine.cli import command
from engine.output import sweep


@command("train", after_sweep=sweep.show_end)
def main(cfg: Any) -> float:
    """Train, and return the best value of the primary metric."""
    from engine.train import train  # torch loads only now

    return train(cfg)


if __name__ == "__main__":
    main()
