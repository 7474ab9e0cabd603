"""The learning curves of a run, from its metrics.csv."""

from collections.abc import Sequence
from pathlib import Path

from engine.report import stored
from engine.report.diagnosis import Chart

Line = tuple[Sequence[float], Sequence[float]]


def read(folder: Path) -> dict[str, Line]:
    """Return epochs and values of each column of metrics.csv; nothing where there is no file."""
    path = folder / "metrics.csv"
    return stored.columns(path) if path.exists() else {}  # type: ignore[return-value]


def best_epoch(columns: dict[str, Line], primary: str) -> float | None:
    """Return the epoch of the highest validation metric, the first of ties."""
    epochs, values = columns.get(f"val/{primary}", ((), ()))
    return epochs[values.index(max(values))] if len(values) else None  # type: ignore[attr-defined]


def charts(columns: dict[str, Line], primary: str) -> list[Chart]:
    """Return the charts of losses, metric, learning rate, gradients and skipped steps."""
    if not columns:
        return []
    best = best_epoch(columns, primary)
    terms = [name.removeprefix("val/loss/") for name in columns if name.startswith("val/loss/")]
    losses = {f"{split} {term}": columns[key] for term in terms
              for split, key in (("train", f"train/{term}"), ("val", f"val/loss/{term}"))
              if key in columns}  # fmt: skip
    found = [
        Chart("Losses", "By term, means of an epoch; the line is the best epoch.", "epoch", "loss",
              losses, mark=best),
        Chart(primary, "On the validation images; the line is the best epoch.", "epoch", primary,
              {primary: columns.get(f"val/{primary}", ((), ()))}, mark=best),
        Chart("Learning rate", "After each epoch.", "epoch", "rate",
              {"rate": columns.get("lr", ((), ()))}),
    ]  # fmt: skip
    if "train/grad_norm" in columns:
        share = columns.get("train/clipped", ((), ()))[1]
        clipped = f"{sum(share) / max(len(share), 1):.0%} of all steps were clipped."
        found.append(Chart("Gradient norm", f"Mean of an epoch before clipping; {clipped}", "epoch",
                           "norm", {"norm": columns["train/grad_norm"]}))  # fmt: skip
    if sum(columns.get("train/skipped", ((), ()))[1]):
        note = "Their loss or gradient was not finite, so they changed nothing."
        found.append(Chart("Skipped steps", note, "epoch", "share of steps",
                           {"skipped": columns["train/skipped"]}, "bar"))  # fmt: skip
    return found
