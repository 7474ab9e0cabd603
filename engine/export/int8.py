"""Quantizes an exported file to 8 bits, but for its last layers.

The convolutions and products that give boxes and scores stay in float32, with all that comes after
them: a coordinate of a few hundred pixels in 8 bits would be off by some, and they cost little.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.loader import Loader
from engine.export.graph import RAW
from engine.runtime.session import extra_of

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution"}


def quantize(path: Path, images: Loader) -> None:
    """Replace an exported file by one in 8 bits, whose ranges are those of the images.

    Raises:
        UserError: the package that does it is not installed.
    """
    with extra_of(path.suffix, "precision=int8 needs"):
        (_openvino if path.suffix == ".xml" else _onnx)(path, images)


def _pixels(images: Loader) -> Iterator[dict[str, np.ndarray]]:
    """Each image as an input of the file."""
    return ({"images": x[None].numpy()} for batch in images for x in batch.images.contiguous())


def upstream(
    start: Iterable[Any], inputs: Callable[[Any], Iterable[Any]], kind: Callable[[Any], str]
) -> list[Any]:
    """The nodes before the last layers on the way to `start`, the layers themselves left out."""
    last, todo, seen = [], list(start), []
    while todo:  # back to the first layer on every way
        node = todo.pop()
        if node in seen:
            continue
        seen.append(node)
        if kind(node) in LAYERS:
            last.append(node)
        else:
            todo += inputs(node)
    before, todo = [], [source for node in last for source in inputs(node)]
    while todo:
        node = todo.pop()
        if node not in before and node not in last:
            before.append(node)
            todo += inputs(node)
    return before


def _onnx(path: Path, images: Loader) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        rows = _pixels(images)

        def get_next(self) -> Any:
            return next(self.rows, None)

    nodes = list(onnx.load(path, load_external_data=False).graph.node)
    maker = {name: row for row, node in enumerate(nodes) for name in node.output}
    before = upstream(
        [maker[name] for name in maker if name.startswith(RAW)],
        lambda row: [maker[name] for name in nodes[row].input if name in maker],
        lambda row: nodes[row].op_type,
    )
    made = path.with_name("int8" + path.suffix)
    quantize_static(
        path,
        made,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=[nodes[row].name for row in before],
    )
    made.replace(path)


def _openvino(path: Path, images: Loader) -> None:
    import nncf  # pyright: ignore[reportMissingImports]
    import openvino as ov  # pyright: ignore[reportMissingImports]

    model = ov.Core().read_model(str(path))
    results = [r for r in model.get_results() if _name(r.input_value(0)).startswith(RAW)]
    before = upstream(results, _sources, lambda node: node.get_type_name())
    names = {node.get_friendly_name() for node in before}
    ignored = [n.get_friendly_name() for n in model.get_ordered_ops()]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(_pixels(images))),
        subset_size=len(images.dataset),
        ignored_scope=nncf.IgnoredScope(
            names=[name for name in ignored if name not in names], validate=False
        ),
    )
    made = path.with_name("int8" + path.suffix)
    ov.save_model(quantized, str(made), compress_to_fp16=False)
    for suffix in (".bin", ".xml"):
        made.with_suffix(suffix).replace(path.with_suffix(suffix))


def _name(output: Any) -> str:
    """A name of a tensor of OpenVINO's, that of the file's output where it is one."""
    return min(output.get_names(), key=lambda name: not name.startswith(RAW), default="")


def _sources(node: Any) -> list[Any]:
    """The nodes that a node of OpenVINO's reads."""
    return [value.get_node() for value in node.input_values()]
