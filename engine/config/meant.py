"""What the user of a wrong word meant: a key of today, another program's, a similar one.

No import of torch here: see `engine.cli`.
"""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache

from omegaconf import OmegaConf

from engine.config import keys
from engine.config.renamed import new_key
from engine.config.schema import CONFIGS

ALIKE = 0.6  # of 1; less is another word


@cache
def elsewhere() -> dict[str, dict[str, str]]:
    """The words of other programs, from configs/elsewhere.yaml."""
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / "elsewhere.yaml"))  # type: ignore[return-value]


def meant(word: str, value: str, known: Sequence[str], config_name: str = "") -> str:
    """What is to be written in place of `word=value`, as the end of a message; "" if unknown.

    Args:
        word: a dotted key, or another program's option with its dashes.
        value: as it was given; "" if none was.
        known: every key of the command.
        config_name: of the command.
    """
    name = word.lstrip("-+~").replace("-", "_")
    group, _, leaf = name.rpartition(".")
    if leaf.startswith("_"):  # of Hydra's own
        return ""
    if name in known or (CONFIGS / name).is_dir():  # only its dashes were wrong
        return f"; set {_assign(name, value, known)}"
    if now := new_key(name, known, config_name):
        return f"; this key is called {now} now"
    if group and (having := keys.options_with(name)):
        kind = name.partition(".")[0]
        option = "auto" if "auto" in having else having[-1]
        both = f"{kind}={option} {name}={value or '...'}"
        return f"; {kind}={', '.join(having)} have it: set {both}"
    if hint := _elsewhere(leaf.lower(), value, known):
        return hint
    same = [key for key in known if key.rpartition(".")[2] == leaf and "hydra" not in key]
    if same or (same := _of_other_options(leaf)):
        return f"; did you mean {' or '.join(_assign(key, value, known) for key in same)}?"
    close = _closest(name, [*known, *keys.groups()])
    return f"; did you mean '{close}'?" if close else ""


def _elsewhere(word: str, value: str, known: Sequence[str]) -> str:
    """What another program's word is here, or ""."""
    if ours := elsewhere()["keys"].get(word):
        return f"; here this is {_assign(ours, value, known)}"
    advice = elsewhere()["words"].get(word)
    return f"; here: {advice}" if advice else ""


def _of_other_options(leaf: str) -> list[str]:
    """The keys of that last name in options that are not chosen."""
    groups = (group for group in keys.groups() if group not in (*keys.PRESETS, *keys.NESTED))
    names = (keys.own_keys(group, option) for group in groups for option in keys.options(group))
    return sorted({key for found in names for key in found if key.rpartition(".")[2] == leaf})


def _assign(key: str, value: str, known: Sequence[str]) -> str:
    """`key=value`, and whose key it is where the configuration as it stands lacks it."""
    text = f"{key}={value}" if value else f"{key}=..."
    having = [] if key in known else keys.options_with(key)
    return f"{text} of {key.partition('.')[0]}={', '.join(having)}" if having else text


def _closest(word: str, known: Iterable[str]) -> str | None:
    """The key that is spelt most alike, or whose last part is, if any is alike enough."""
    scores = {key: _likeness(word, key) for key in known if not key.startswith("hydra")}
    best = max(scores, key=lambda key: scores[key])
    return best if scores[best] >= ALIKE else None


def _likeness(word: str, key: str) -> float:
    leaf = key.rpartition(".")[2]
    whole = SequenceMatcher(None, word, key).ratio()
    return max(whole, SequenceMatcher(None, word, leaf).ratio() - 0.01 if "." not in word else 0)
