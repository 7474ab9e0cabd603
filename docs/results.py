"""Writes results.md and zoo.md of the rows of results.jsonl: python docs/results.py.

A row is a run that was measured: its fields are those of `FIELDS`, null where nothing was noted.
"""

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
FIELDS = (
    "date", "data", "task", "model", "command", "commit", "machine", "minutes", "split", "metric",
    "value", "note",
)  # fmt: skip
SHOWN = ("value", "model", "minutes", "date", "commit", "machine", "command", "note")
HELD_OUT = ("train", None, "val", "test")  # splits, the one that says most last
MAKES = re.compile(r"make demo|predict\.py |(\w+=\S+ )*(python )?train\.py ")
Row = dict[str, Any]

RESULTS = """# Results

Made by `python docs/results.py` from [results.jsonl](results.jsonl): change that, not this page.

Training and evaluation runs with an accuracy, failures too, best first; the [diary](diary.md) has
the story, and all else that was measured. A line is one run of one seed, but where its note says a
mean, so differences of a point or two are noise. Commands are spelt as of today and were measured
at the commit named; where there is none, the run cannot be written as one today. BCCD, VOC, COCO,
ANTS and CIFAR are folders of data, RUN is that of a run, WEIGHTS is MobileNet v1 x 0.25 from
ImageNet (biubug6/Pytorch_Retinaface), FILE what the note names. Minutes are a limit or the time
used. What was not noted is empty. mAP is VOC's, by all points.
"""
ZOO = """# Model zoo

Made by `python docs/results.py` from [results.jsonl](results.jsonl): change that, not this page.

**No weights are hosted here.** A command makes the model in the minutes beside it, on cores of a
CPU that [results](results.md) names. The folder that the run prints has the model,
`checkpoints/best.pt`, and its model card, `card.md`:

```python
from onelook import load

found = load("best.pt")("photo.jpg")
```

`load` takes the path of a checkpoint; [Python](python.md) has the rest. Each line is the best run
of a model on a data set, on `test` where it was measured there; the best of several reads a little
more than a new one will. The words in capitals are those of [results](results.md); of public
weights, FILE itself is the model.
"""


def read() -> list[Row]:
    """The rows of results.jsonl, in their order."""
    lines = (DOCS / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def pages(rows: list[Row]) -> dict[str, str]:
    """The text of each page, by its name."""
    return {"results.md": results(rows), "zoo.md": zoo(rows)}


def results(rows: list[Row]) -> str:
    """All rows: a heading for each data set, a table for each task, metric and split of it."""
    parts = [RESULTS]
    for data, of_data in grouped(rows, "data"):
        parts.append(f"## {data}\n")
        for (task, metric, split), group in grouped(of_data, "task", "metric", "split"):
            title = f"**{task.capitalize()}: {metric} on {split or 'a split that was not noted'}**"
            machines = {row["machine"] for row in group}
            alike = f", {group[0]['machine']}" if len(machines) == 1 and group[0]["machine"] else ""
            columns = [name for name in SHOWN if any(row[name] is not None for row in group)
                       and not (name == "machine" and alike)]  # fmt: skip
            parts += [prose(title) + prose(alike) + "\n", table(best_first(group), columns)]
    return "\n".join(parts)


def zoo(rows: list[Row]) -> str:
    """The best row of each model and data set that a command makes."""
    best: dict[tuple[str, str], Row] = {}
    for row in best_first(rows):
        if MAKES.match(row["command"] or ""):
            key = (row["data"], row["model"])
            best[key] = max(best.get(key, row), row, key=lambda r: HELD_OUT.index(r["split"]))
    parts = [ZOO]
    for data, _ in grouped(rows, "data"):
        lines = [
            row | {"number": f"{row['metric']} {number(row['value'])} on {row['split']}"}
            for row in best_first([best[key] for key in best if key[0] == data])
        ]
        if lines:
            parts += [f"## {data}\n", table(lines, ["model", "minutes", "number", "command"])]
    return "\n".join(parts)


def grouped(rows: list[Row], *fields: str) -> list[tuple[Any, list[Row]]]:
    """Rows that have the same in these fields, in the order of their first ones."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in fields)
        groups.setdefault(key if len(fields) > 1 else key[0], []).append(row)
    return list(groups.items())


def best_first(rows: list[Row]) -> list[Row]:
    """Rows by their number, the greatest first; equal ones as they were."""
    return sorted(rows, key=lambda row: -row["value"])


def table(rows: list[Row], columns: list[str]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(name, row[name]) for name in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(name: str, value: Any) -> str:
    """A field as it stands in a table."""
    if value is None:
        return ""
    if name == "value":
        return number(value)
    if name == "command":
        return "`" + value.replace("|", r"\|") + "`"
    return f"{value:g}" if name == "minutes" else prose(value).replace("|", r"\|")


def number(value: float) -> str:
    """A number of three places, or of those that it has beyond."""
    return max(f"{value:.3f}", str(value), key=len).removeprefix("0")


def prose(text: str) -> str:
    """Text in which no star outside of backticks is markup, but the pairs around a title."""
    parts = re.split(r"(`[^`]*`|^\*\*|\*\*$)", text)
    return "".join(part if i % 2 else part.replace("*", r"\*") for i, part in enumerate(parts))


if __name__ == "__main__":
    for name, text in pages(read()).items():
        (DOCS / name).write_text(text, encoding="utf-8")
