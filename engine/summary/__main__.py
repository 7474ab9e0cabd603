"""A network layer by layer: python -m engine.summary model=ssd_resnet34 num_classes=20.

It says, of each layer, the size of its output, its stride and receptive field, its parameters and
its multiplications (MACs), then the totals and a detector's grids of anchors. No weights are read
and no data. A layer's width is N = (W - F + 2P) / S + 1, rounded down, for a kernel of F cells,
stride S and padding P on W cells; `engine.summary.receptive_field` has the recurrences of stride
and field.
"""

import json
from typing import Any

from engine.cli import command
from engine.errors import UserError, did_you_mean

FORMATS = ("text", "json")
AUTO = 224  # what image_size=auto is here, pixels: no weights are read that say another


@command("summary")
def main(cfg: Any) -> None:
    """Checked configuration in, a table or one JSON document on standard output."""
    if cfg.format not in FORMATS:
        hint = did_you_mean(cfg.format, FORMATS)
        raise UserError(f"format={cfg.format}: expected {' or '.join(FORMATS)}{hint}")
    if cfg.num_classes < 1:
        raise UserError(f"num_classes={cfg.num_classes}: expected at least 1")
    if cfg.image_size == "auto":
        cfg.image_size = AUTO

    from engine.summary.layers import summary  # torch loads only now
    from engine.summary.table import facts, text

    found = summary(cfg)
    print(text(found) if cfg.format == "text" else json.dumps(facts(found), indent=1))


if __name__ == "__main__":
    main()
