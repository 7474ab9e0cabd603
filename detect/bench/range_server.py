"""A server of a folder's files by HTTP ranges, on this machine alone, that answers late.

It stands for an object store in measurements and tests.
"""

import multiprocessing
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Handler(BaseHTTPRequestHandler):
    """Answers GET, with Range or without.

    Args:
        folder: whose files are served.
        latency: seconds that each answer waits.
        ranges: False answers a range with the whole file, as some servers do.
    """

    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True

    def __init__(self, *args: Any, folder: str, latency: float = 0.0, ranges: bool = True) -> None:
        self.folder, self.latency, self.ranges = Path(folder), latency, ranges
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer with a file's bytes."""
        time.sleep(self.latency)
        path = self._file()
        if path is None:
            self._answer(404, b"")
            return
        size = path.stat().st_size
        asked = RANGE.fullmatch(self.headers.get("Range", "")) if self.ranges else None
        first, last = (0, size - 1) if asked is None else map(int, asked.groups())
        if first >= size:
            self._answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        with open(path, "rb") as file:
            file.seek(first)
            body = file.read(min(last, size - 1) - first + 1)
        stated = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{size}"}
        self._answer(200 if asked is None else 206, body, stated if asked else {})

    def do_HEAD(self) -> None:
        """Answer with a file's size."""
        path = self._file()
        size = path.stat().st_size if path else 0
        self.send_response_only(200 if path else 404)
        self.send_header("Content-Length", str(size))
        self.send_header("Last-Modified", EPOCH)
        self.end_headers()

    def _file(self) -> Path | None:
        path = self.folder / unquote(urlsplit(self.path).path).lstrip("/")
        return None if ".." in path.parts or not path.is_file() else path

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        stated = {"Content-Length": str(len(body)), "Last-Modified": EPOCH, **(headers or {})}
        for name, value in stated.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + body)  # type: ignore[attr-defined]  # in one packet
        self.flush_headers()


class Server(ThreadingHTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


@contextmanager
def served(folder: str | Path, latency: float = 0.0, ranges: bool = True) -> Iterator[str]:
    """The URL of a folder's files, which a thread of this process serves in the `with` block."""
    server = _server(str(folder), latency, ranges)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield _url(server)
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def served_apart(folder: str | Path, latency: float) -> Iterator[str]:
    """As `served`, by a process of its own, which leaves the first core to others."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(False)
    process = context.Process(target=_serve, args=(str(folder), latency, sender), daemon=True)
    process.start()
    try:
        yield receiver.recv()
    finally:
        process.terminate()
        process.join()


def _serve(folder: str, latency: float, sender: Any) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores - {min(cores)} or cores)
    server = _server(folder, latency, True)
    sender.send(_url(server))
    server.serve_forever()


def _server(folder: str, latency: float, ranges: bool) -> Server:
    handler = partial(Handler, folder=folder, latency=latency, ranges=ranges)
    return Server(("127.0.0.1", 0), handler)


def _url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"
