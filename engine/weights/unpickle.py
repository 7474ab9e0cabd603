"""Files of torch's as plain tensors, dicts and numbers; what else they are is named in one line."""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch

from engine.errors import UserError

MAGIC = (  # how a file begins, in small letters; what it is, and what to do
    (b"version https://git-lfs", "a Git LFS pointer, not the file: run `git lfs pull`"),
    (b"<", "a web page, not the file: download the file itself"),
    (b"{", "JSON"),
    (b"\x1f\x8b", "compressed: unpack it first"),
    (b"bzh", "compressed: unpack it first"),
    (b"\xfd7zxz", "compressed: unpack it first"),
    (b"7z\xbc\xaf", "compressed: unpack it first"),
    (b"\x89hdf", "HDF5, as Keras writes it"),
    (b"\x93numpy", "an array of NumPy"),
    (b"\x80", "a pickle that torch did not write, or a damaged one"),
)
PICKLE = b"\x80"  # how files of torch's older format begin; the newer ones are zip archives
START = 2**20  # bytes; a smaller file is read whole
PACKED = 10  # torch's own archives are not compressed; one that unpacks to more is made to be large
PROGRAMS = {  # by the package of the first object that torch refuses
    "ultralytics.": ", a model of Ultralytics",
    "models.yolo": ", a model of Ultralytics",
    "torch.nn.": ", a whole network",
    "torchvision.models.": ", a whole network of torchvision",
    "timm.": ", a whole network of timm",
    "__main__.": ", a class of the program that wrote it, as a whole network",
    "pytorch_lightning.": ", a checkpoint of Lightning",
    "lightning.": ", a checkpoint of Lightning",
}


def unpickle(data: bytes, path: str) -> Mapping[Any, Any]:
    """The dict in a file's bytes; no code in it is ever run.

    Raises:
        UserError: naming what the file is instead.
    """
    try:
        loaded = load_plain(io.BytesIO(data), torch.device("cpu"))
    except Exception as error:  # torch's readers have no fixed set of errors
        raise no_weights(path, what_it_is(data, str(error))) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: expected tensors by name, got a {type(loaded).__name__}")
    return loaded


def no_weights(path: str, what: str) -> UserError:
    """The error of a file that holds no weights; `what` says what it is."""
    return UserError(
        f"{path}: cannot be read as weights: it is {what}; expected a state dict or a "
        "checkpoint of plain tensors (nothing else is ever unpickled), or a Darknet file "
        "(.weights)"
    )


def load_plain(file: str | BinaryIO, device: torch.device) -> Any:
    """What torch reads from a file without running code in it; any exception where it refuses."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if packed := _packed(archive):
                raise ValueError(packed)
    if not isinstance(file, str):
        file.seek(0)
    with warnings.catch_warnings():  # torch warns of pickle protocols before it refuses them
        warnings.simplefilter("ignore")
        return torch.load(file, map_location=device, weights_only=True)


def _packed(archive: zipfile.ZipFile) -> str:
    """What an archive is whose few bytes would become many in memory; "" for any other."""
    held = sum(entry.compress_size for entry in archive.infolist())
    size = sum(entry.file_size for entry in archive.infolist())
    file = archive.fp.seek(0, 2) if archive.fp else held
    if size <= PACKED * min(held, file) + START:
        return ""
    return f"a zip archive of {file} bytes that unpacks to {size}: save the weights with torch.save"


def foreign_start(file: BinaryIO) -> bytes | None:
    """The first bytes of a file that cannot be torch's, to say what it is; None where it may be.

    So nothing of many gigabytes is read to be refused. The file stands at its beginning again.
    """
    start = file.read(START)
    may_be = len(start) < START or start.startswith(PICKLE) or zipfile.is_zipfile(file)
    file.seek(0)
    return None if may_be else start


def what_it_is(data: bytes, message: str) -> str:
    """What a file is that torch does not read; `message` is torch's."""
    if not data:
        return "empty"
    if data.startswith(b"PK"):
        return _zip(data, message)
    if name := _pickled(message):
        return name
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return (
            "a safetensors file: convert it once, "
            "torch.save(safetensors.torch.load_file(FILE), 'weights.pth')"
        )
    start = data[:512].lstrip().lower()
    if found := next((what for magic, what in MAGIC if start.startswith(magic)), None):
        return found
    if data[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    text = b"\0" not in start and start.decode("utf-8", "replace").isascii()
    return "text" if text else "no file of torch's, or a damaged one"


def _zip(data: bytes, message: str) -> str:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return "cut short: the end of its zip archive is missing"
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        names, packed = archive.namelist(), _packed(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return "a damaged zip archive"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript archive: save its state_dict() with torch.save"
    if not any(name.endswith("/data.pkl") for name in names):
        return "a zip archive without weights of torch's (no data.pkl): unpack it first"
    return packed or _pickled(message) or "a damaged zip archive"


def _pickled(message: str) -> str | None:
    """The object that torch refused to unpickle, from its message."""
    found = re.search(r"(?:GLOBAL|class|type) ([\w.]*\w)", message)
    if not found:
        return None
    name = found[1]
    maker = next((says for package, says in PROGRAMS.items() if name.startswith(package)), "")
    return (
        f"a pickle of objects ({name}){maker}: save the weights alone{_how(maker)}, "
        "torch.save(network.state_dict(), 'weights.pth')"
    )


def _how(maker: str) -> str:
    if "Ultralytics" in maker:
        return " where it was trained, network = YOLO(FILE).model"
    return " in the program that made it"
