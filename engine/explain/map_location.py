"""Where a checkpoint's tensors go when it is read: saved on a CPU or a GPU, read on either.

A file holds the name of the device of each tensor, and `torch.load` puts it back there, unless
`map_location` names another. Without a GPU here, the file of a GPU is one that says "cuda:0" of
tensors of the CPU; its bytes are the same.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from engine.explain.explanation import Explanation, new_figure

NO_GPU = "needs a GPU"
GPU = "cuda:0"
COLOURS = {True: "#cfe8cf", False: "#f4c7c3", None: "#e6e6e6"}  # as wanted, not so, not tried


@contextmanager
def _named(device: str) -> Iterator[None]:
    """Inside the `with` block, files say of every tensor that it was on that device."""
    kept = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: device
    try:
        yield
    finally:
        torch.serialization.location_tag = kept


def saved(device: str, gpu: bool) -> bytes:
    """A file of three numbers that were on `device`, cpu or cuda:0."""
    content = io.BytesIO()
    weights = torch.tensor([1.0, 2.0, 3.0], device=device if gpu else "cpu")
    with _named(device):
        torch.save({"weight": weights}, content)
    return content.getvalue()


def loaded(content: bytes, device: str | None) -> tuple[str, str]:
    """The device that the tensors are on, or the error's name; and the error's text.

    Args:
        content: of the file.
        device: map_location; None leaves it out.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except RuntimeError as error:
        return type(error).__name__, str(error)
    return str(state["weight"].device), ""


def explain() -> Explanation:
    """What becomes of the four directions, without map_location and with it."""
    gpu, rows, lines = torch.cuda.is_available(), [], []
    for origin in ("cpu", GPU):
        for target in ("cpu", GPU):
            bare, given = NO_GPU, NO_GPU
            if gpu or target == "cpu":
                content = saved(origin, gpu)
                (bare, text), (given, _) = loaded(content, None), loaded(content, target)
                lines += [f"{origin} to {target}, without map_location: {text}"] if text else []
            rows.append(
                {"saved on": origin, "wanted on": target, "without map_location": bare,
                 "map_location=wanted": given}
            )  # fmt: skip
    found = "a GPU" if gpu else f"no GPU: the file of {GPU} says so of tensors of the CPU"
    return Explanation(rows, _figure(rows), [*lines, f"this machine has {found}"])


def _figure(rows: list[dict[str, Any]]):
    figure = new_figure(8, 3)
    axes = figure.subplots()
    axes.axis("off")
    cells = [[*row.values()] for row in rows]
    table = axes.table(
        cells, [["white", "white", *(_colour(cell, row[1]) for cell in row[2:])] for row in cells],
        colLabels=list(rows[0]), loc="center", cellLoc="center",
    )  # fmt: skip
    table.set_fontsize(10)
    table.scale(1, 2.2)
    return figure


def _colour(cell: str, wanted: str) -> str:
    return COLOURS[None if cell == NO_GPU else cell == wanted]
