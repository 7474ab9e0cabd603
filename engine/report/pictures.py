"""Images in the page: small JPEGs inside it, with marks as SVG over them."""

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from engine.report.diagnosis import KINDS, Mark

SIDE, QUALITY = 300, 72  # pixels of the longer side, JPEG's quality
CAP = 60  # marks on an image
CSS_CLASS = {kind: f"m{i}" for i, kind in enumerate(KINDS)}


def figure(
    image: np.ndarray | None, marks: Sequence[Mark], caption: str, why: str, classes: Sequence[str]
) -> str:
    """Return a <figure> of an image with its marks.

    Args:
        image: [H, W, 3] RGB; None where there is none to show.
        marks: in its pixels.
        caption: its name.
        why: the line under it.
        classes: names by which the page filters it.
    """
    kinds = sorted({CSS_CLASS[mark.kind] for mark in marks if not _is_found(mark)})
    shown, left = marks[:CAP], len(marks) - CAP
    more = f" ({left} more marks are not drawn)" if left > 0 else ""
    body = _picture(image, shown) if image is not None else "<p class=none>no image at hand</p>"
    return (
        f'<figure class=shot data-kinds="{" ".join(kinds)}" '
        f'data-classes="{escape(chr(31).join(classes), quote=True)}">{body}'
        f"<figcaption><b>{escape(caption)}</b><br>{escape(why + more)}</figcaption></figure>"
    )


def _is_found(mark: Mark) -> bool:
    return mark.truth and mark.kind == KINDS[0]


def _picture(image: np.ndarray, marks: Sequence[Mark]) -> str:
    height, width = image.shape[:2]
    data = base64.b64encode(thumbnail(image)).decode()
    drawn = "".join(_drawn(mark, max(height, width) / SIDE) for mark in marks)
    return (
        f'<svg viewBox="0 0 {width} {height}" role=img>'
        f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
        f"{drawn}</svg>"
    )


def _drawn(mark: Mark, unit: float) -> str:
    """A box and its text, in the image's pixels; `unit` of them are a pixel of the page."""
    x1, y1, x2, y2 = (round(float(value), 1) for value in mark.box)
    of = f'class="{CSS_CLASS[mark.kind]}{" truth" if mark.truth else ""}"'
    text = "" if _is_found(mark) else (
        f'<text x="{x1 + 2 * unit:.1f}" y="{max(y1 - 3 * unit, 10 * unit):.1f}" '
        f'font-size="{11 * unit:.1f}">{escape(mark.text)}</text>'
    )  # fmt: skip
    title = ", ".join(filter(None, (f"{mark.kind}: {mark.text}", mark.why)))
    return (
        f'<g {of}><title>{escape(title)}</title><rect x="{x1}" y="{y1}" '
        f'width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}" '
        f'stroke-width="{2 * unit:.1f}"/>{text}</g>'
    )


def thumbnail(image: np.ndarray) -> bytes:
    """Return an image [H, W, 3] RGB as a JPEG of at most SIDE pixels a side."""
    scale = SIDE / max(image.shape[:2])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes()
