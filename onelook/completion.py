"""Completion of commands, groups, options and keys in a shell. No import of torch here."""

import importlib
import os
import sys

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.completion_plugin import DefaultCompletionPlugin

from engine.cli import configuration
from engine.config import keys
from engine.config.arguments import place
from engine.config.describe import help_words
from engine.config.schema import CONFIGS
from engine.errors import UserError, did_you_mean

# Bash takes `=` for the end of a word: what stands before the last part is cut from the answers.
BASH = r"""_onelook() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n'
    local word=${line##* }
    local before=${word%"$2"}
    COMPREPLY=($(COMP_LINE=$line onelook completion query 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o default -F _onelook onelook"""
ZSH = r"""_onelook() {
    local -a found open
    found=(${(f)"$(COMP_LINE="${(j: :)words[1,CURRENT]}" onelook completion query 2>/dev/null)"})
    open=(${(M)found:#*[=./]})
    compadd -- ${found:|open}
    compadd -S '' -- $open
    (( $#found )) || _files
}
compdef _onelook onelook"""
FISH = r"""complete -c onelook -a \
    '(COMP_LINE=(commandline -cp) onelook completion query 2>/dev/null)'"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def answer(arguments: list[str]) -> list[str]:
    """Return what `onelook completion SHELL` prints: the script that a shell evaluates.

    `query` is what the scripts ask: which words complete the line in COMP_LINE.

    Raises:
        UserError: no such shell.
    """
    if arguments == ["query"]:
        return query(os.environ.get("COMP_LINE", ""))
    shell = " ".join(arguments)
    if shell not in SCRIPTS:
        hint = did_you_mean(shell, SCRIPTS)
        raise UserError(
            f"onelook completion {shell}".rstrip() + f": expected {', '.join(SCRIPTS)}{hint}"
        )
    return SCRIPTS[shell].split("\n")


def query(line: str) -> list[str]:
    """Return the words that may stand in place of a command line's last one, whole and in order.

    Args:
        line: up to the cursor, `onelook` included.
    """
    words = line.split()[1:] + [""] * line[-1:].isspace()
    commands = [*help_words()["commands"], "completion"]
    if len(words) < 2:
        return sorted(name for name in commands if name.startswith("".join(words)))
    name, *rest = words
    if name == "completion":
        return sorted(shell for shell in SCRIPTS if shell.startswith(rest[-1]))
    return _settings(name, rest) if name in commands else []


def _settings(name: str, words: list[str]) -> list[str]:
    """The groups, options and keys of a command that begin with the last word."""
    importlib.import_module(place(name)[0])  # kmeans has its schema there
    sys.argv = [f"onelook {name}", *words[:-1]]
    config, word = configuration(name), words[-1]
    group, equals, _ = word.partition("=")
    if equals and group in keys.groups():
        options = {f"{group}={option}" for option in keys.options(group)}
        return sorted(option for option in options if option.startswith(word))
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        found = DefaultCompletionPlugin(loader)._query(config, " ".join(words))
    groups = {f"{match.rstrip('/=')}=" for match in found if match.rstrip("/=") in keys.groups()}
    found = groups | {match for match in found if match.rstrip("/=") not in keys.groups()}
    read = help_words()["reads"].get(config)
    return sorted(match for match in found if read is None or _top(match) in map(_top, read))


def _top(key: str) -> str:
    """The first part of a key or group."""
    return key.lstrip("+~").replace("/", ".").replace("=", ".").partition(".")[0]
