"""What to mend first, in a sentence: the largest of TIDE's errors, and where most of it is."""

from collections import Counter
from typing import Any

from detect.diagnosis.marks import TWICE, Marks
from detect.diagnosis.matched import Matched
from engine.report.diagnosis import INVENTED

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


def advice(matched: Matched, tide: dict[str, Any], marks: Marks) -> str:
    """Return what to mend first, from hotcoco's `tide_errors` and the marks at the best score."""
    if not matched.live.total.sum():
        return "there is no object to find."
    if not len(matched.predicted.image):
        return "nothing is predicted at all."
    gains = {kind: tide["delta_ap"][kind] for kind in ERRORS}
    kind = max(gains, key=lambda k: gains[k])
    start = f"COCO's AP50 is {tide['ap_base']:.3f}; "
    if gains[kind] < LITTLE:
        is_none = not (matched.status == 1).any()
        return start + (
            "no detection is near an object: look at the images below, are boxes where objects are?"
            if is_none
            else f"no kind of error costs more than {LITTLE} of it."
        )
    return (
        f"{start}what costs most is objects {ERRORS[kind]} ({gains[kind]:+.3f} if they alone were "
        f"mended){_where(matched, kind, marks)}.{_worst(matched)}"
    )


def _where(matched: Matched, kind: str, marks: Marks) -> str:
    """Where most errors of a kind are, at the best score."""
    is_missed = kind in ("Miss", "Loc")
    counts = _missed(matched) if is_missed else _confused(matched, kind, marks)
    if not counts:
        return ""
    (name, count), total = counts.most_common(1)[0], counts.total()
    if count < SHARE * total:
        return "; no class has most of them"
    verb = "objects that are not found are" if is_missed else "of them are"
    return f"; at score {matched.live.best:.2f}, {count} of {total} {verb} {name}"


def _worst(matched: Matched) -> str:
    """The class of the lowest AP50, where there are several."""
    precision = matched.precision[0, :, :, 0, -1]  # [R, K]
    averages = {n: p.mean() for n, p in zip(matched.classes, precision.T, strict=True)
                if p.max() > -1}  # fmt: skip
    if len(averages) < 2:
        return ""
    name = min(averages, key=lambda n: averages[n])
    return f" The class with the lowest AP50 is {name} ({averages[name]:.3f})."


def _missed(matched: Matched) -> Counter[str]:
    rows, names = matched.missed_at_best(), matched.classes
    pairs = zip(matched.true.labels[rows], matched.true.area[rows], strict=True)
    return Counter(f"{'small ' * bool(area < SMALL)}{names[label]}" for label, area in pairs)


def _confused(matched: Matched, kind: str, marks: Marks) -> Counter[str]:
    """Of wrong classes the pairs, of what is invented or found twice the class."""
    counts: Counter[str] = Counter()
    names, none = matched.classes, len(matched.classes)
    if kind == "Cls":
        for row, column, count in matched.confusion_at_best():
            if none not in (row, column) and row != column:
                counts[f"{names[row]} taken for {names[column]}"] += count
    if kind in ("Bkg", "Dupe"):
        for image in range(matched.images):
            for mark in marks.of(image):
                if mark.kind == INVENTED and mark.why.startswith(TWICE) == (kind == "Dupe"):
                    counts[f"of class {mark.label}"] += 1
    return counts
