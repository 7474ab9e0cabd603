"""Run a checkpoint on images: python predict.py checkpoint=PATH source=FOLDER."""

from typing import Any

from engine.cli import command


@command("predict")
def main(cfg: Any) -> None:
    """Write annotated images and predictions.json."""
    from engine.predict import predict  # torch loads only now

    predict(cfg)


if __name__ == "__main__":
    main()
