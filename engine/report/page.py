"""The page: one HTML file with its style, script, charts and images inside."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from engine.report import figures
from engine.report.diagnosis import KINDS, Chart, Live, Table
from engine.report.pictures import CSS_CLASS

HERE = Path(__file__).parent


def page(title: str, sections: Iterable[str]) -> str:
    """Return the whole file."""
    style, script = (
        (HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js")
    )
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>\n"
        + "\n".join(sections)
        + f"\n<script>{script}</script></body></html>\n"
    )


def head(
    title: str, name: str, value: float | None, protocol: str, advice: str, facts: dict[str, Any]
) -> str:
    """Return the head: the number with its rules, what to do first, and what was done."""
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(str(text))}</td></tr>"
        for key, text in facts.items()
        if text not in (None, "")
    )
    number = "not a number" if value is None else f"{value:.4f}"
    first = f"<p class=advice><b>Mend first:</b> {escape(advice)}</p>" if advice else ""
    return (
        f"<h1>{escape(title)}</h1><p class=number data-value='{value}'>{escape(name)} {number}</p>"
        f"<p class=note>{escape(protocol)}</p>{first}"
        f"<div class=scroll><table class=facts>{rows}</table></div>"
    )


def section(title: str, panels: Sequence[str], note: str = "") -> str:
    """Return a section of panels; nothing if there are none."""
    if not panels:
        return ""
    line = f"<p class=note>{escape(note)}</p>" if note else ""
    return f"<h2>{escape(title)}</h2>{line}<div class=grid>{''.join(panels)}</div>"


def chart_panel(chart: Chart) -> str:
    """Return a chart with its heading."""
    return (
        f"<div class=panel><h3>{escape(chart.title)}</h3>{figures.draw(chart)}"
        f"<p class=note>{escape(chart.note)}</p></div>"
    )


def table_panel(table: Table) -> str:
    """Return a table that a click on a column sorts."""
    return (
        f"<div class='panel{' wide' if len(table.columns) > 5 else ''}'><h3>{escape(table.title)}"
        f"</h3><p class=note>{escape(table.note)}</p><div class='scroll tall'>"
        f"{html_table(table.columns, table.rows)}</div></div>"
    )


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a <table>; numbers are rounded to be read and kept whole to be sorted."""
    names = "".join(f"<th data-sort>{escape(str(name))}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "<td data-value=''>-</td>"
    if isinstance(value, float):
        return f'<td data-value="{value!r}">{value:.3f}</td>'
    return f"<td>{escape(str(value))}</td>"


def live_section(live: Live) -> str:
    """Return the slider, the counts that follow it and the confusion matrix."""
    at = min(range(len(live.scores)), key=lambda i: abs(live.scores[i] - live.best))
    data = {
        "scores": live.scores, "names": live.names, "right": live.right.tolist(),
        "wrong": live.wrong.tolist(), "total": live.total.tolist(), "confusion": live.confusion,
        "rows": live.rows, "columns": live.columns, "unit": live.unit,
    }  # fmt: skip
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    where = (
        f"It starts where F1 over all classes is highest, {live.best:.2f}: the score to use where "
        "a miss costs as much as a false alarm; each class has its own in the table of classes."
        if live.right.any()
        else "Nothing is right at any score."
    )
    big = "".join(
        f"<span><b id={key}></b>{word}</span>"
        for key, word in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"),
                          ("right", "right"), ("wrong", "wrong"), ("missed", "missed"))
    )  # fmt: skip
    columns = ("class", "precision", "recall", "F1", "right", "wrong", "missed")
    confusion = (
        "<div class='panel wide'><h3>Confusion</h3><p class=note>Rows are the truth, columns what "
        "was predicted; the colour is the share of the row.</p><div class='scroll tall'><table "
        "id=confusion></table></div></div>"
        if live.confusion
        else ""
    )
    return (
        "<h2>At a score</h2><p class=note>Move the slider: predictions of a lower score do not "
        f"count. {where}</p>"
        f"<div class=slider><label for=score>least score <b id=least></b></label><input id=score "
        f"type=range min=0 max={len(live.scores) - 1} value={at}></div>"
        f"<div class=big>{big}</div><div class=grid><div class='panel wide'><div class='scroll "
        f"tall'><table id=live><thead><tr>{''.join(f'<th data-sort>{c}</th>' for c in columns)}"
        f"</tr></thead><tbody></tbody></table></div></div>{confusion}</div>"
        f"<script type=application/json id=data>{text}</script>"
    )


def shots_section(figures: Sequence[str], classes: Sequence[str], note: str, marked: bool) -> str:
    """Return the images with their legend and filters."""
    if not figures:
        return ""
    kinds = {CSS_CLASS[kind]: kind for kind in KINDS}
    legend = "".join(f"<span class={css}>{kind}</span>" for css, kind in kinds.items())
    legend = f"<p class=legend>{legend} dashed: annotated</p>" if marked else ""
    kind = _select("kind", kinds if marked else {}, "every kind")
    name = _select("class", {c: c for c in classes}, "every class")
    return (
        f"<h2>Images</h2><p class=note>{escape(note)}</p>{legend}<div class=filters>{kind}{name}"
        f"<span id=shown class=note></span></div><div class=shots>{''.join(figures)}</div>"
    )


def _select(name: str, options: dict[str, str], every: str) -> str:
    rows = "".join(
        f'<option value="{escape(value, quote=True)}">{escape(text)}</option>'
        for value, text in options.items()
    )
    return f"<select id={name} aria-label={name}><option value=''>{every}</option>{rows}</select>"
