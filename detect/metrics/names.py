"""Names of classes as keys of a metric's numbers."""

from collections import Counter
from collections.abc import Sequence


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names, those that classes share with the class's place, from 1, behind them."""
    count = Counter(names)
    return [n if count[n] == 1 else f"{n} (class {i})" for i, n in enumerate(names, 1)]
