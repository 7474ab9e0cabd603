"""Parts of an object store's files (s3, gs, az ...), by the package `obstore`, an extra.

Its runtime dies in a process that is forked after it began. So the process that starts the loader's
workers never begins it: processes of its own read for it. Workers read themselves.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from engine.errors import UserError

READERS = 4  # processes that read for the main one
Answer = bytes | str | None  # the bytes, what is wrong in words, or None: no such file


def read(url: str, start: int, length: int) -> bytes:
    """Bytes from `start` on; fewer where the file ends.

    Raises:
        UserError: `obstore` is not installed, there is no such file, or the store answers why not.
    """
    found = _ask(url, start, length)
    if found is None:
        raise UserError(f"{url}: no such object; check the URL")
    return found


def read_whole(url: str) -> bytes | None:
    """All bytes of a file; None where the store has none. Raises as `read`."""
    return _ask(url, 0, None)


def _ask(url: str, start: int, length: int | None) -> bytes | None:
    if multiprocessing.parent_process() is None:
        answer = _readers().submit(_answer, url, start, length).result()
    else:
        answer = _answer(url, start, length)
    if isinstance(answer, str):
        raise UserError(f"{url}: {answer}")
    return answer


@cache
def _readers() -> ProcessPoolExecutor:
    """Started by `fork`, as a script without `if __name__` could not be started anew."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    return ProcessPoolExecutor(READERS, context)


def _answer(url: str, start: int, length: int | None) -> Answer:
    """What the store answers, in types that travel between processes."""
    try:
        obstore = import_module("obstore")
        wrong = import_module("obstore.exceptions").BaseError
    except ImportError:
        return 'object stores are read by obstore: pip install "onelook[stores]"'
    try:
        store, path = _store(url)
        if length is None:
            return bytes(obstore.get(store, path).bytes())
        try:
            return bytes(obstore.get_range(store, path, start=start, length=length))
        except wrong:
            if start >= obstore.head(store, path)["size"]:
                return b""
            raise
    except FileNotFoundError:
        return None
    except (wrong, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        return f"the store answers: {why}; check the URL and the keys"


def _store(url: str) -> tuple[Any, str]:
    parts = urlsplit(url)
    return _opened(f"{parts.scheme}://{parts.netloc}"), parts.path.lstrip("/")


@cache
def _opened(root: str) -> Any:
    """The store of a bucket; its keys and region are those of the environment."""
    return import_module("obstore.store").from_url(root)
