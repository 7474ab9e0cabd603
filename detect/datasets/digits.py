"""Parse all decimal numbers of a text to an array, without a Python object for each."""

import numpy as np

NO_NUMBER = bytes(c for c in range(256) if c not in b"0123456789.-,")
EXACT = 2**53  # up to here every whole number is a float64
TENS = 10.0 ** np.arange(19)  # these are, too


def parse_decimals(text: bytes) -> np.ndarray | None:
    """All numbers of a text, [n] float64, as `float` reads them; None where one is malformed.

    Numbers are digits between other bytes, without exponents and of at most 18 digits.
    """
    text = text.translate(None, NO_NUMBER).strip(b",")
    while b",," in text:
        text = text.replace(b",,", b",")
    if not text:
        return np.zeros(0)
    text += b","
    each = np.frombuffer(text, np.uint8)
    mark = np.flatnonzero(each < ord("0")).astype(np.int32)  # not a digit: comma, minus or dot
    comma, minus, dot = (each[mark] == ord(x) for x in ",-.")
    end, owner = (
        mark[comma],
        np.cumsum(comma, dtype=np.int32),
    )  # which number a minus or a dot belongs to
    start = np.concatenate([np.zeros(1, np.int32), end[:-1] + 1])
    signed, dotted = owner[minus], owner[dot]
    lead, point = start.copy(), end.copy()  # the first digit, and the end of those before a dot
    lead[signed] += 1
    point[dotted] = mark[dot]
    if (lead >= point).any() or (mark[minus] != start[signed]).any():
        return None
    shift = end - point - 1  # digits behind the dot; -1 without one
    count = end - lead - (shift >= 0)
    zero = (each[lead] == ord("0")) & (point - lead > 1)  # JSON has no 007
    two = np.diff(dotted) == 0
    if zero.any() or two.any() or (shift == 0).any() or count.max() > 18:
        return None
    whole = _whole(text.translate(None, b".-"), count)
    value = whole / TENS[np.maximum(shift, 0)]  # rounded once, as both are exact
    value[signed] *= -1
    long = np.flatnonzero(whole >= EXACT)
    places = (start[long].tolist(), end[long].tolist())
    value[long] = [float(text[a:b]) for a, b in zip(*places, strict=True)]
    return value


def _whole(text: bytes, count: np.ndarray) -> np.ndarray:
    """The numbers [n] int64 of digits between commas, of which there are `count` [n], up to 18."""
    each = np.frombuffer(b"," * 24 + text, np.uint8)
    # Every run of eight bytes as one word; those that end with a number's last digit are picked.
    words = np.ndarray(len(each) - 7, "<u8", each, strides=(1,))
    last = np.flatnonzero((each[:-1] != ord(",")) & (each[1:] == ord(","))) - 7
    whole = _eight(words[last], np.minimum(count, 8))
    for skip in (8, 16):
        more = np.flatnonzero(count > skip)
        digits = _eight(words[last[more] - skip], np.minimum(count[more] - skip, 8))
        whole[more] += 10**skip * digits
    return whole


def _eight(words: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The number that the last `count` [n], 1 to 8, of eight digits [n] are, as int64.

    Neighbours are joined in all places of a word at once: digits to pairs, to fours, to eight.
    """
    unused = (8 * (8 - count)).astype(np.uint64)
    words = words >> unused << unused
    words = (words & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(10 * 2**8 + 1) >> np.uint64(8)
    words = (words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 2**16 + 1) >> np.uint64(16)
    words = (words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10**4 * 2**32 + 1) >> np.uint64(32)
    return words.astype(np.int64)
