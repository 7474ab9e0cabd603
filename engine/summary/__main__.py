"""A network layer by layer: python -m engine.summary model=ssd_resnet34 num_classes=20.

Prints for each layer the size of its output, its stride and receptive field, its parameters and
its multiply-adds (MACs), then the totals and a detector's grids of anchors. It reads no weights and
no data. A layer's width is N = (W - F + 2P) / S + 1, rounded down, for a kernel of F cells, stride
S and padding P on W cells; `engine.summary.receptive_field` has the recurrences of stride and
receptive field.
"""

import json
from typing import Any

from engine.cli import command
from engine.console import echo
from engine.errors import UserError, did_you_mean

FORMATS = ("text", "json")
AUTO = 224  # image_size=auto, pixels: no weights are read that could state their size


@command("summary")
def main(cfg: Any) -> None:
    """Print the summary of the configured network, as a table or one JSON document."""
    if cfg.format not in FORMATS:
        hint = did_you_mean(cfg.format, FORMATS)
        raise UserError(f"format={cfg.format}: expected {' or '.join(FORMATS)}{hint}")
    if cfg.image_size == "auto":
        cfg.image_size = AUTO

    from engine.summary.layers import summarize  # torch loads only now
    from engine.summary.table import format_summary, plain_values

    summary = summarize(cfg)
    as_text = cfg.format == "text"
    text = format_summary(summary) if as_text else json.dumps(plain_values(summary), indent=1)
    echo(*text.split("\n"))


if __name__ == "__main__":
    main()
