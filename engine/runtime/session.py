"""Runs exported files: ONNX by onnxruntime, OpenVINO's by OpenVINO."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import UserError

Tensors = dict[str, np.ndarray]  # a file's outputs by name
Session = Callable[[np.ndarray], Tensors]  # of images [B, 3, H, W] uint8 RGB
CPU = "CPUExecutionProvider"


@contextmanager
def extra_of(suffix: str, use: str) -> Iterator[None]:
    """Inside the `with` block, a package that is missing is a UserError that names its extra.

    Args:
        suffix: of the exported file.
        use: what the package does, as in "runs model.onnx".
    """
    try:
        yield
    except ImportError as error:
        extra = "openvino" if suffix == ".xml" else "export"
        raise UserError(
            f'{error.name} is not installed, which {use}: pip install "onelook[{extra}]"'
        ) from None


def session(path: Path, device: torch.device) -> Session:
    """Open an exported file on a device.

    Raises:
        UserError: the engine that runs it is not installed, cannot read it, or not use the device;
            when it runs, it does not take these images.
    """
    with extra_of(path.suffix, f"runs {path.name}"):
        opened = FORMATS[path.suffix](path, device)

    def run(images: np.ndarray) -> Tensors:
        try:
            return opened(images)
        except Exception as error:  # of the engine's own kinds
            raise UserError(
                f"{path}: does not run on {len(images)} images of {images.shape[3]} x "
                f"{images.shape[2]} pixels ({_reason(error)})"
            ) from None

    return run


def _onnx(path: Path, device: torch.device) -> Session:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
    provider = CPU if device.type == "cpu" else f"{device.type.upper()}ExecutionProvider"
    if provider not in ort.get_available_providers():
        raise UserError(
            f"device={device}: onnxruntime has no {provider} here; set device=cpu, or install "
            "onnxruntime-gpu"
        )
    chosen: Any = [(provider, {"device_id": device.index or 0}), CPU] if provider != CPU else [CPU]
    try:
        opened = ort.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:  # onnxruntime's own kinds
        raise _unreadable(path, error) from None
    names = [output.name for output in opened.get_outputs()]

    def run(images: np.ndarray) -> Tensors:
        found: Any = opened.run(names, {"images": images})
        return dict(zip(names, found, strict=True))

    return run


def _openvino(path: Path, device: torch.device) -> Session:
    import openvino as ov  # pyright: ignore[reportMissingImports]

    if device.type != "cpu":
        raise UserError(f"device={device}: OpenVINO's files run on device=cpu here")
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it computes in bf16 where the CPU can
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        model = ov.Core().compile_model(str(path), "CPU", settings)
    except Exception as error:
        raise _unreadable(path, error) from None
    names = [output.get_any_name() for output in model.outputs]

    def run(images: np.ndarray) -> Tensors:
        found = model.create_infer_request().infer({"images": images})
        return {name: found[i] for i, name in enumerate(names)}

    return run


FORMATS: dict[str, Callable[[Path, torch.device], Session]] = {".onnx": _onnx, ".xml": _openvino}


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: cannot be opened ({_reason(error)}); export it anew: python -m engine.export"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
