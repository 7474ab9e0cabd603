"""What there is in a dataset, and what is wrong with it: python -m engine.check dataset=...

Every image of train, val and test (or of split=) is read once. A table and all defects go to the
console, the same with file and row to data_report.json in the run folder: {split: rows, "no split":
rows of files that no split names, "statistics": {split: facts}, "stops": why training would stop}.
samples=16 draws so many samples before and after augmentation to images/samples.jpg, and
convert=coco writes the truth as COCO JSON to annotations/instances_<split>.json.

Exit code 2 where training with this configuration would stop, so that a script can ask: with
dataset.on_error=skip, which leaves bad rows and images out, it is 0. No file of the user changes.
"""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from engine.cli import command
from engine.errors import UserError, did_you_mean

FORMATS = ("coco",)


@command("check")
def main(cfg: Any) -> None:
    """Checked configuration in, report out."""
    if cfg.samples < 0:
        raise UserError(f"samples={cfg.samples}: expected 0 or more")
    if cfg.convert not in (None, *FORMATS):
        hint = did_you_mean(str(cfg.convert), FORMATS)
        raise UserError(f"convert={cfg.convert}: expected {' or '.join(FORMATS)}{hint}")

    from engine.check.report import check  # torch loads only now

    check(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    main()
