"""Parts of a web server's files, by HTTP's Range (RFC 9110, 14) on connections that stay open."""

import atexit
import http.client
import os
import re
import time
from collections import defaultdict
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urljoin, urlsplit

from engine.errors import UserError

TRIES = 5  # of a request that the network or a busy server fails
WAIT = 0.5  # seconds before the third; then twice as long each time
IDLE = 64  # open connections to a server that a process keeps
TIMEOUT = 60  # seconds
REDIRECTS = 5
MOVED, BUSY = (301, 302, 303, 307, 308), (408, 429, 500, 502, 503, 504)
MISSING = (403, 404, 410)  # a store that may not be listed answers 403 for what is not there


# Open connections that wait for the next request; a forked process does not use its parent's.
_idle: dict[tuple[int, str, str], list[HTTPConnection]] = defaultdict(list)


def _connection(url: SplitResult) -> HTTPConnection:
    idle = _idle[os.getpid(), url.scheme, url.netloc]
    try:
        return idle.pop()
    except IndexError:
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        return kind(url.netloc, timeout=TIMEOUT)


def _give_back(connection: HTTPConnection, url: SplitResult) -> None:
    idle = _idle[os.getpid(), url.scheme, url.netloc]
    if len(idle) < IDLE:
        idle.append(connection)
    else:
        connection.close()


@atexit.register
def _close() -> None:
    for (process, *_), idle in _idle.items():
        while process == os.getpid() and idle:
            idle.pop().close()


def read(url: str, start: int, length: int) -> bytes:
    """Bytes from `start` on; fewer where the file ends.

    Raises:
        UserError: the server has no such file or sends no ranges, or cannot be reached.
    """
    status, body = _get(url, f"bytes={start}-{start + length - 1}")
    if status == 416:  # begins behind its end
        return b""
    if status == 200:
        raise UserError(
            f"{url}: asked for a range of bytes, the server sends the whole file (no support of "
            "Range): use a server that has it, or copy the tars to a disk"
        )
    return _checked(url, status, body)


def read_whole(url: str) -> bytes | None:
    """All bytes of a file; None where the server has none. Raises as `read`."""
    status, body = _get(url, None)
    return None if status in MISSING else _checked(url, status, body)


def _checked(url: str, status: int, body: bytes) -> bytes:
    if status in (200, 206):
        return body
    reason = http.client.responses.get(status, "")
    raise UserError(f"{url}: the server answers {status} {reason}".rstrip() + "; check the URL")


def _get(url: str, asked: str | None) -> tuple[int, bytes]:
    """Status and body, after redirects and, of what may pass, further tries."""
    why = ""
    for attempt in range(TRIES):
        if attempt > 1:  # at once after the first, as a server ends idle connections
            time.sleep(WAIT * 2 ** (attempt - 2))
        try:
            status, body = _follow(url, asked)
        except (OSError, HTTPException) as error:
            why = f"{type(error).__name__} {error}".strip()
            continue
        if status not in BUSY:
            return status, body
        why = f"{status} {http.client.responses.get(status, '')}".rstrip()
    raise UserError(f"{url}: no answer after {TRIES} tries ({why}); check the URL and the network")


def _follow(url: str, asked: str | None) -> tuple[int, bytes]:
    for _ in range(REDIRECTS):
        status, body, moved = _request(url, asked)
        if moved is None:
            return status, body
        url = urljoin(url, moved)
        if urlsplit(url).scheme not in ("http", "https"):
            break
    raise UserError(f"{url}: led on more than {REDIRECTS} times, or away from the web")


def _request(url: str, asked: str | None) -> tuple[int, bytes, str | None]:
    """Status, body, and where a redirect leads."""
    parts = urlsplit(url)
    connection = _connection(parts)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", path, headers={"Range": asked} if asked else {})
        answer = connection.getresponse()
        if asked and not _is_part(answer, asked):  # a whole tar, not to be read
            answer.close()
            connection.close()
            return 200, b"", None
        body = answer.read()
    except (OSError, HTTPException):
        connection.close()
        raise
    _give_back(connection, parts)
    moved = answer.getheader("Location") if answer.status in MOVED else None
    return answer.status, body, moved


def _is_part(answer: HTTPResponse, asked: str) -> bool:
    """Whether it is no other part of the file than the one that was asked for, or its beginning."""
    if answer.status not in (200, 206):
        return True
    first = re.match(r"bytes (\d+)-", answer.getheader("Content-Range", ""))
    return first is not None and asked.startswith(f"bytes={first[1]}-")
