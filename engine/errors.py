"""The exceptions that end a command early, and a hint for misspelt words."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The user's input is wrong; the message has what was got, what is expected, how to mend it.

    The commands print the message without a traceback and exit with code 2.
    """


class Diverged(UserError):
    """Too many steps in a row were not finite; no weight changed, so the state can be saved."""


class Stopped(BaseException):
    """A signal ended the run between two steps; its arguments are the signal and a message."""


class JobFailed(Exception):
    """A job of a sweep failed; its arguments are the exit code and the message that it printed."""

    @property
    def code(self) -> int:
        """The exit code that the job alone would have had."""
        return self.args[0]

    def __str__(self) -> str:
        return self.args[1]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint such as "; did you mean 'focal'?", or "" if no known word is similar."""
    similar = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{similar[0]}'?" if similar else ""
