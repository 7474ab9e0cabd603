"""What to mend first, in a sentence: the largest of TIDE's errors, and where most of it is."""

from collections import Counter
from typing import Any

from detect.diagnosis.matched import Matched

# TIDE, arXiv 2008.08115, section 2.2, in words
ERRORS = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "invented",
    "Miss": "missed",
}
LITTLE = 0.005  # of AP50
SHARE = 0.1  # of the errors of a kind, that is worth naming
SMALL = 32**2  # square pixels, COCO's


def advice(matched: Matched, tide: dict[str, Any]) -> str:
    """Return a sentence from hotcoco's `tide_errors`."""
    if not matched.live.total.sum():
        return "There is no object to find, so nothing can be said."
    if not (matched.status == 1).any():
        return (
            "No detection is right at IoU 0.50: train longer, or look at the images below: are "
            "the boxes where the objects are?"
        )
    gains = {kind: tide["delta_ap"][kind] for kind in ERRORS}
    kind = max(gains, key=lambda k: gains[k])
    start = f"AP50 is {tide['ap_base']:.3f}; "
    if gains[kind] < LITTLE:
        return start + f"no kind of error costs more than {LITTLE} of it."
    return (
        f"{start}what costs most is objects {ERRORS[kind]} ({gains[kind]:+.3f} if they alone were "
        f"mended){_where(matched, kind)}."
    )


def _where(matched: Matched, kind: str) -> str:
    """Where most errors of a kind are, at the best score."""
    is_missed = kind in ("Miss", "Loc")
    counts = _missed(matched) if is_missed else _confused(matched, kind)
    if not counts:
        return ""
    (name, count), total = counts.most_common(1)[0], counts.total()
    if count < SHARE * total:
        return "; no class has most of them"
    verb = "objects that are not found are" if is_missed else "of them are"
    return f"; at score {matched.live.best:.2f}, {count} of {total} {verb} {name}"


def _missed(matched: Matched) -> Counter[str]:
    rows, names = matched.missed_at_best(), matched.classes
    pairs = zip(matched.true.labels[rows], matched.true.area[rows], strict=True)
    return Counter(f"{'small ' * bool(area < SMALL)}{names[label]}" for label, area in pairs)


def _confused(matched: Matched, kind: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    names, none = matched.classes, len(matched.classes)
    for row, column, count in matched.confusion_at_best():
        if kind == "Cls" and none not in (row, column) and row != column:
            counts[f"{names[row]} taken for {names[column]}"] += count
        if kind == "Bkg" and row == none:
            counts[f"of class {names[column]}"] += count
    return counts
