"""Average precision by the rules of PASCAL VOC (Everingham et al., IJCV 2010, section 4.2).

It is the area under the precision-recall curve of a ranking, where the precision at a recall is
the best at this or any higher one.
"""

import numpy as np

from engine.errors import UserError, did_you_mean

# The floats of the Python ports and so of their published numbers: .3, .6 and .7 are one last place
# too large, and a recall of exactly 9/15 does not reach .6.
RECALLS = np.linspace(0, 1, 11)
RULES = {"all_point": "all-point rule", "11_point": "11-point rule (VOC2007)"}


def check_rule(rule: str) -> None:
    """Raise UserError unless `rule` is one of RULES."""
    if rule not in RULES:
        raise UserError(f"rule: got {rule}, expected {list(RULES)}{did_you_mean(rule, RULES)}")


def average_precision(precision: np.ndarray, right: np.ndarray, total: int, rule: str) -> float:
    """The area under the curve of one ranking, 0..1.

    Args:
        precision: [M] among the ranks up to each, the best first.
        right: [M] bool, whether each rank is a true positive.
        total: number of true objects, at least 1.
        rule: all_point, or 11_point for the mean at recalls 0, .1, ..., 1.
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    if rule == "11_point":
        at = np.searchsorted(right.cumsum() / total, RECALLS)
        return float(np.append(best, 0)[at].sum() / 11)
    return float(best[right].sum() / total)
