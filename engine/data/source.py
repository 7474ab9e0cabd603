"""What `source=` names: images, the frames of a file, or a camera or stream."""

import re
from pathlib import Path

from engine.data.files import Files
from engine.data.frames import Animation, Stream, Video, is_animated
from engine.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ANIMATED = (".gif", ".webp")
ADDRESS = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt)://", re.IGNORECASE)


def open_source(
    *, source: str, on_error: str = "fail", frames: int | None = None
) -> Files | Video | Animation | Stream:
    """The dataset without truth of a file, folder, glob, video, animation, camera or stream.

    Args:
        source: as the command line takes it; the number of a camera is a text of digits.
        on_error: of images: fail, or skip those that cannot be read.
        frames: at most so many, of what has frames.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    if is_stream(source):
        return Stream(source=source, frames=frames)
    if has_frames(source):
        kind = Video if Path(source).suffix.lower() in VIDEO_SUFFIXES else Animation
        return kind(source=source, frames=frames)
    if frames is not None:
        raise UserError(f"frames={frames}: source={source} has images, no frames; leave it out")
    return Files(source=source, on_error=on_error)


def is_stream(source: str) -> bool:
    """Whether it is a camera's number or the address of a stream."""
    return source.isdecimal() or bool(ADDRESS.match(source))


def has_frames(source: str) -> bool:
    """Whether it is a video, or an image file of several frames."""
    suffix = Path(source).suffix.lower()
    return suffix in VIDEO_SUFFIXES or (
        suffix in ANIMATED and Path(source).is_file() and is_animated(source)
    )
