"""Writes a graph in the format of an engine that runs it."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from engine.errors import UserError
from engine.runtime.session import extra_of

LARGEST = 2**31  # bytes of an ONNX file, a limit of protobuf


def write(program: Any, names: list[str], path: Path) -> None:
    """Write a graph that `engine.export.graph.program` made; the suffix of `path` is the format.

    Raises:
        UserError: a package is missing, or the format cannot hold the graph.
    """
    with extra_of(path.suffix, f"writes {path.suffix} files"):
        WRITERS[path.suffix](program, names, path)


def _pt2(program: Any, names: list[str], path: Path) -> None:
    torch.export.save(program, path)


def _onnx(program: Any, names: list[str], path: Path) -> None:
    import onnx  # noqa: F401  # named in the message where it is missing
    import onnxscript  # noqa: F401

    size = sum(x.numel() * x.element_size() for x in program.state_dict.values())
    if size > LARGEST:
        raise UserError(
            f"{size / 2**30:.1f} GB of weights: an ONNX file holds 2 GB; format=pt2 has no limit"
        )
    try:
        made = torch.onnx.export(
            program, dynamo=True, input_names=["images"], output_names=names, verbose=False
        )
        assert made is not None
        made.save(path, external_data=False)
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error).rpartition("Exception summary")[2].split())[:300]
        raise UserError(
            f"format={path.suffix[1:]}: torch.onnx cannot write this graph ({reason})"
        ) from error


def _openvino(program: Any, names: list[str], path: Path) -> None:
    import openvino as ov  # pyright: ignore[reportMissingImports]

    between = path.with_suffix(".onnx")
    _onnx(program, names, between)
    try:
        # not by convert_model, which reports to its makers
        ov.save_model(ov.Core().read_model(str(between)), str(path), compress_to_fp16=False)
    finally:
        between.unlink(missing_ok=True)


WRITERS: dict[str, Callable[[Any, list[str], Path], None]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".pt2": _pt2,
}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters tell programmers of their own off the console; errors are raised."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
