"""The command `onelook`: `onelook train ...` is `python train.py ...`, and so on for every tool.

No import of torch here: the commands load it when their configuration is composed and checked.
"""

import importlib
import sys
import textwrap
from collections.abc import Callable

from engine import console
from engine.config.arguments import place
from engine.config.describe import first_sentence, help_words
from engine.errors import UserError, did_you_mean
from onelook import completion

COMPLETION = "completion"
COLUMN = 14  # where what a command does begins
WIDTH = 80


def main() -> None:
    """Run the command that the command line names, or list them all."""
    console.escape_unencodable()
    name, *rest = sys.argv[1:] or ["--help"]
    try:
        if name in ("-h", "--help"):
            console.echo(*overview())
        elif name == COMPLETION:
            console.echo(*completion.answer(rest))
        else:
            run = find(name)
            sys.argv = [f"onelook {name}", *rest]  # as messages call it
            run()
    except UserError as error:
        console.error(f"error: {error}")
        sys.exit(2)


def find(name: str) -> Callable[[], None]:
    """Return what runs a command.

    Raises:
        UserError: there is none of that name.
    """
    known = [*help_words()["commands"], COMPLETION]
    if name not in known[:-1]:
        hint = did_you_mean(name, known)
        raise UserError(f"onelook {name}: no such command (`onelook --help` lists them){hint}")
    module, function = place(name)
    return getattr(importlib.import_module(module), function)


def overview() -> list[str]:
    """Return the lines of `onelook --help`: every command and what it does."""
    does = {name: first_sentence(name) for name in help_words()["commands"]}
    does[COMPLETION] = 'Completes words in a shell: eval "$(onelook completion bash)", zsh or fish.'
    return [
        "usage: onelook COMMAND [KEY=VALUE ...]",
        "",
        *(line for name, text in does.items() for line in _row(name, text)),
        "",
        "`onelook COMMAND --help` says what a command takes, with examples.",
    ]


def _row(name: str, text: str) -> list[str]:
    """A command's lines in the list."""
    first, rest = f"  {name}".ljust(COLUMN), " " * COLUMN
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest)
