"""TensorBoard's file, written in the caller's thread: each record is in it whole or not at all.

`torch.utils.tensorboard.SummaryWriter` writes in a thread of its own, which a full disk ends with a
traceback and half a record, after which TensorBoard reads nothing more of the file.
"""

import io
import os
import secrets
import socket
import time
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary

from engine.whole_file import NotWritten, reason

Event: Any = event_pb2.Event  # type: ignore[attr-defined]
SessionLog: Any = event_pb2.SessionLog  # type: ignore[attr-defined]
VERSION = "brain.Event:2"
UPPER = 1e-12 * 1.1 ** np.arange(774)  # TensorBoard's bins, to 1e20
BINS = np.concatenate([-UPPER[::-1], [0.0], UPPER])


class Events:
    """A file of events in a folder, made with its first record.

    Every method raises NotWritten where the file cannot take its record.

    Args:
        folder: of TensorBoard's files.
        step: of a run that goes on; TensorBoard forgets what older files have of later steps.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / f"{name}.{secrets.token_hex(4)}"
        self._first = [Event(file_version=VERSION)]
        if step:
            log = SessionLog(status=SessionLog.START)
            self._first.append(Event(step=step + 1, session_log=log))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write a number."""
        self._add(summary.scalar(_tag(tag), value), step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Write [H, W, 3] uint8 RGB."""
        self._add(summary.image(_tag(tag), image, dataformats="HWC"), step)

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Write how values are distributed."""
        self._add(summary.histogram(_tag(tag), values, BINS), step)

    def curve(self, tag: str, columns: tuple[np.ndarray, ...], step: int) -> None:
        """Write a precision-recall curve; its columns are those of `run_log.counts`."""
        tp, fp, tn, fn, precision, recall = columns
        content = summary.pr_curve_raw(_tag(tag), tp, fp, tn, fn, precision, recall)
        self._add(content, step)

    def hyperparameters(self, values: dict[str, Any], scores: dict[str, float]) -> None:
        """Write the hyperparameters of a sweep's job and what it scored."""
        for part in summary.hparams(values, scores):
            self._add(part, 0)
        for tag, value in scores.items():
            self.scalar(tag, value, 0)

    def _add(self, content: Any, step: int) -> None:
        self._write([*self._first, Event(summary=content, step=step)])
        self._first = []

    def _write(self, events: list[Any]) -> None:
        """Append events, or none of them."""
        records = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(records).write(event.SerializeToString())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as file:
                _append(file, records.getbuffer())
        except OSError as error:
            raise NotWritten(self.path, reason(error)) from error


def _append(file: FileIO, data: memoryview) -> None:
    size = file.tell()
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        file.truncate(size)  # half a record would hide all that follow
        raise


def _tag(text: str) -> str:
    """A tag that UTF-8 has."""
    return text.encode("utf-8", "backslashreplace").decode()
