"""A checkpoint as one file for other programs: python -m engine.export checkpoint=PATH.

The file is compared with its checkpoint on images of the run's own validation split. model.onnx,
model.json (what it takes and gives) and parity.json (how close it is) are in the run folder. Where
it is not close enough it keeps the name model.failed.onnx, and the exit code is 1.
"""

import sys
from pathlib import Path
from typing import Any

from engine.cli import command
from engine.errors import UserError, did_you_mean

CHOICES = {
    "format": ("onnx", "openvino", "pt2"),
    "dynamic": ("none", "batch", "size"),
    "precision": ("fp32", "int8"),
}


@command("export")
def main(cfg: Any) -> None:
    """Export the checkpoint, or with verify= compare a file that was exported before."""
    if not cfg.checkpoint:
        raise UserError("set checkpoint=PATH, a file of a run: RUN/checkpoints/best.pt")
    for key, known in CHOICES.items():
        if cfg[key] not in known:
            hint = did_you_mean(str(cfg[key]), known)
            raise UserError(f"{key}={cfg[key]}: expected one of {', '.join(known)}{hint}")
    if cfg.verify and Path(cfg.verify).suffix not in (".onnx", ".xml"):
        raise UserError(
            f"verify={cfg.verify}: expected a .onnx or .xml file (torch reads .pt2 by unpickling, "
            "which can run any code)"
        )
    if cfg.format == "pt2" and cfg.precision == "int8":
        raise UserError("precision=int8 is for format=onnx and format=openvino; pt2 has none here")

    from engine.builders.missing import refuse_missing

    refuse_missing(cfg)

    from engine.export.publish import export  # torch loads only now

    if not export(cfg):
        sys.exit(1)


if __name__ == "__main__":
    main()
