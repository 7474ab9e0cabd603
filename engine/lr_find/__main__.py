"""Suggests learning rates: python -m engine.lr_find model=resnet18 dataset=... dataset.root=FOLDER.

The rate rises by the same factor at every step of the training loop, until the loss diverges (the
range test of arXiv 1506.01186, 3.3). The curve is written to lr_find.csv and lr_find.png in the run
folder. It takes the keys of train.py, and `steps`, `least` and `most`, the range of rates.
"""

from typing import Any

from engine.cli import command
from engine.console import echo
from engine.errors import UserError


@command("lr_find")
def main(cfg: Any) -> None:
    """Print suggested learning rates, and write the curve to the run folder."""
    if not 0 < cfg.least < cfg.most:
        raise UserError(f"least={cfg.least} most={cfg.most}: expected rates, 0 < least < most")
    if cfg.steps < LEAST_STEPS:
        raise UserError(f"steps={cfg.steps}: expected at least {LEAST_STEPS}")

    from engine.lr_find import curve  # torch loads only now
    from engine.output import run_folder

    folder = run_folder.shared(cfg)
    run, loader = curve.start(cfg)
    result = curve.find(run, loader, steps=cfg.steps, least=cfg.least, most=cfg.most)
    result.write(folder)
    echo(*result.summary_lines(), f"curve: {folder / 'lr_find.png'}")


LEAST_STEPS = 10  # fewer make no curve


if __name__ == "__main__":
    main()
