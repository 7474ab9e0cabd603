"""Statistics and defects of a dataset: python -m engine.check dataset=...

Every image of train, val and test (or of split=) is read once. Statistics and defects are printed
and written to data_report.json in the run folder: {split: rows of defects, "no split": rows of
files in no split, "statistics": {split: facts}, "stops": why training would stop, or null}.
samples=16 draws 16 samples before and after augmentation to images/samples.jpg, and convert=coco
writes the truth as COCO JSON to annotations/instances_<split>.json, convert=yolo as text files to
yolo/labels/<split>/ with links to the images.

The exit code is 2 if training with this configuration would stop at a defect, so that a script can
test for it; with dataset.on_error=skip, which leaves bad rows and images out, it is 0. The dataset
is never changed.
"""

from typing import Any

from engine.cli import command
from engine.errors import UserError, did_you_mean

FORMATS = ("coco", "yolo")


@command("check")
def main(cfg: Any) -> None:
    """Check the dataset of the configuration and write its report."""
    if cfg.convert not in (None, *FORMATS):
        hint = did_you_mean(str(cfg.convert), FORMATS)
        raise UserError(f"convert={cfg.convert}: expected {' or '.join(FORMATS)}{hint}")

    from engine.check.report import write_report
    from engine.output import run_folder

    write_report(cfg, run_folder.shared(cfg))


if __name__ == "__main__":
    main()
