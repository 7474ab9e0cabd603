"""TensorBoard reads what is written, and a full disk costs a record and not the file."""

import errno
from io import FileIO

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from engine.output import events
from engine.output.events import Events
from engine.whole_file import NotWritten


def read(path):
    """(step, tag) of every value in the file, in order; a broken file ends the list early."""
    return [
        (event.step, value.tag)
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_tensorboard_reads_every_kind(tmp_path):
    board = Events(tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()  # made with the first record
    board.scalar("loss", 0.5, 1)
    board.image("val/a", np.zeros((4, 5, 3), np.uint8), 2)
    board.histogram("weight/w", torch.nn.Parameter(torch.randn(9)), 3)
    board.curve("val/cat", tuple(np.zeros(127) for _ in range(6)), 4)
    board.hyperparameters({"optimizer.lr": 0.1}, {"mAP": 0.25})
    board.scalar("a \ud800 name", 1.0, 5)
    assert board.path.name.startswith("events.out.tfevents.")
    tags = read(board.path)
    assert tags[:4] == [(1, "loss"), (2, "val/a"), (3, "weight/w"), (4, "val/cat")]
    assert (0, "mAP") in tags and tags[-1] == (5, "a \\ud800 name")
    assert [tag for _, tag in tags if tag.startswith("_hparams_")] != []


def test_a_run_that_goes_on_replaces_later_steps(tmp_path):
    board = Events(tmp_path, step=7)
    board.scalar("loss", 0.5, 8)
    first = [e for e in EventFileLoader(str(board.path)).Load() if e.HasField("session_log")]
    assert [e.step for e in first] == [8] and first[0].session_log.status == 1  # START


class Full(FileIO):
    """A file on a disk with room for `room` bytes more."""

    room = 0

    def write(self, data):
        if len(data) <= Full.room:
            Full.room -= len(data)
            return super().write(data)
        if not Full.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        data, Full.room = data[: Full.room], 0
        return super().write(data)


@pytest.mark.parametrize("room", [0, 1, 30, 60, 100])
def test_a_full_disk_costs_a_record_and_not_the_file(room, tmp_path, monkeypatch):
    board = Events(tmp_path)
    board.scalar("before", 1.0, 1)
    with monkeypatch.context() as disk:
        disk.setattr(events, "open", lambda path, *_, **__: Full(path, "ab"), raising=False)
        Full.room = room
        with pytest.raises(NotWritten, match="No space left on device"):
            board.image("lost", np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8), 2)
    board.scalar("after", 1.0, 3)
    assert read(board.path) == [(1, "before"), (3, "after")]


def test_a_file_that_could_not_be_begun_is_begun_later(tmp_path, monkeypatch):
    board = Events(tmp_path, step=4)
    with monkeypatch.context() as disk:
        disk.setattr(events, "open", lambda path, *_, **__: Full(path, "ab"), raising=False)
        Full.room = 10
        with pytest.raises(NotWritten):
            board.scalar("lost", 1.0, 5)
    board.scalar("kept", 1.0, 6)
    assert read(board.path) == [(6, "kept")]
    assert next(iter(EventFileLoader(str(board.path)).Load())).file_version == "brain.Event:2"
