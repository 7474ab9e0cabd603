"""Forks the project's commands from one process that has loaded all of it.

Loading torch and what goes with it takes most of the seconds of a short command. `command_line.py`
starts one of these servers, asks it for each command by a byte over a socket, with open files:
the request, standard output and error, and a pipe for the child's number and, later, its exit code.
The child returns from `serve` and runs the command as Python would, but does not take the loaded
modules apart at the end, which takes longer than a wrong argument.
The server ends, and its children with it, when the other end of the socket is closed.
"""

import atexit
import contextlib
import errno
import fnmatch
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

PACKAGES = ("engine", "classify", "detect", "onelook")
DRAWING = ("figure", "backends.backend_agg", "backends.backend_svg")  # loaded late by commands
FILES = 4  # that come with a request


def load() -> None:
    """Import every module that a command may import. No torch operation: its threads do not fork"""
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__"):  # what `-m` runs is not imported first
                importlib.import_module(module.name)
    for name in DRAWING:
        importlib.import_module(f"matplotlib.{name}")
    keys = importlib.import_module("engine.config.keys")
    keys.known("train")  # Hydra looks for its plugins once
    compose_once()
    gc.collect()
    gc.freeze()  # what is not touched stays shared


def compose_once() -> None:
    """Leave out the composition that Hydra begins every command with, for `hydra.mode` alone.

    That is null unless an override says otherwise: it is in no file of configs/.
    """
    hydra = importlib.import_module("hydra._internal.hydra").Hydra
    composed = hydra.get_mode

    def get_mode(self: Any, config_name: str | None, overrides: list[str]) -> Any:
        asked = any("hydra" in override for override in overrides if "hydra.run" not in override)
        return composed(self, config_name, overrides) if asked else None

    hydra.get_mode = get_mode


def serve(asked: socket.socket) -> dict[str, Any]:
    """Fork a child for every request; only the child returns, with its request."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            reap(running)
        if asked not in ready:
            continue
        _, files, _, _ = socket.recv_fds(asked, 1, FILES)
        if not files:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        request, out, err, status = files
        if not (pid := os.fork()):
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, file in enumerate((out, err), 1):
                os.dup2(file, number)
            found = json.loads(os.pread(request, os.fstat(request).st_size, 0))
            asked.close()
            for file in (*files, *running.values(), woken, wake):
                os.close(file)
            return found
        running[pid] = status
        os.write(status, f"{pid}\n".encode())
        for file in (request, out, err):
            os.close(file)


def reap(running: dict[int, int]) -> None:
    """Write the exit codes of the children that have ended."""
    while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
        status = running.pop(ended[0])
        with contextlib.suppress(BrokenPipeError):  # no one waits for it
            os.write(status, f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())
        os.close(status)


def ending(run: Callable[[], object]) -> NoReturn:
    """Run it and end this process with Python's exit code, exit functions and traceback."""
    code: object = 0
    try:
        run()
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 255 if isinstance(code, int) else 1)


def fill_disk(refused: list[str]) -> None:
    """Make the disk full for files whose names match one of these patterns."""
    replace = os.replace

    def limited(source: str, target: str) -> None:
        if any(fnmatch.fnmatch(Path(target).name, pattern) for pattern in refused):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replace(source, target)

    os.replace = limited  # type: ignore[assignment]


def become(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    largest: int | None,
    refused: list[str],
) -> None:
    """Run `python ARGUMENTS` in this process: a file, or a module after `-m`."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = environment.get("PYTHONPATH", "").split(os.pathsep)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    fill_disk(refused)
    if arguments[0] == "-m":
        sys.path[0], sys.argv = cwd, arguments[1:]
        sys.modules.pop(arguments[1], None)  # it would be run beside itself
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(arguments[0]).parent), arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at pytest is not the server's to answer
    load()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ending(functools.partial(become, **request))
