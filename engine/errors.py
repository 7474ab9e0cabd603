"""What ends a command early, and the hint that helps to mend what the user can mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The user's input is wrong: the message says what was got, what was expected, how to mend it.

    The commands print it as it is, without a traceback, and exit with code 2.
    """


class Diverged(UserError):
    """Too many steps in a row were not finite; the state before them is worth keeping."""


class Stopped(BaseException):
    """A signal ended the run between two steps: its number, and what to tell."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint such as "; did you mean 'focal'?", or nothing where no known word is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
