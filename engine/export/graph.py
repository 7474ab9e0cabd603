"""A network as one graph: uint8 images in, objects out, every tensor of a size known beforehand."""

from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.network import Network
from engine.network_protocols import HeadOptions

BATCHES = 1024  # images at once, at most, of a file that takes any number
RAW = "raw_"  # before the names of what the network outputs for every slot


class Graph(nn.Module):
    """Normalisation, network and decoding.

    `names` are those of its outputs. With `nms` they are `boxes` [B, N, 4] in pixels of its input,
    `scores` [B, N] and `labels` [B, N], best first; rows behind the last object have the score -1.
    Without, `boxes` [B, A, 4] and `scores` [B, A, K] of all slots. Then comes the network's raw
    output. A head without boxes has none here.

    Raises:
        UserError: the head has no decoding of a fixed size.
    """

    def __init__(self, network: Network, *, nms: bool) -> None:
        super().__init__()
        self.network, self.nms = network, nms
        self.has_boxes = "boxes" in network.head.outputs
        candidates = HeadOptions.candidates.of(network.head)
        if candidates is None:
            raise UserError(
                f"head {type(network.head).__name__}: its number of regions depends on the image, "
                "which no graph of a fixed size holds; detectors of one stage can be exported "
                "(model=ssd_resnet34, retinanet_resnet50, yolo_v3)"
            )
        self.candidates = candidates
        found = ("boxes",) * self.has_boxes + ("scores",) + ("labels",) * nms
        raw = sorted({"logits", "boxes", "objectness"} & set(network.head.outputs))
        self.names = [*found, *(RAW + name for name in raw)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] uint8 RGB -> the outputs, in the order of `names`."""
        output = self.network(images).float()
        boxes, scores = self.candidates(output)
        found = (boxes, scores)
        if self.nms:
            found = self.network.head.postprocess.fixed(boxes, scores)
        raw = output.numbers
        return *found[not self.has_boxes :], *(raw[name] for name in sorted(raw))


def program(graph: Graph, size: tuple[int, int], dynamic: str) -> Any:
    """The graph as torch exports it, for images of (height, width).

    Args:
        graph: in evaluation mode.
        size: of its images.
        dynamic: "none" for one image at a time; "batch" for any number, "size" also of any size.

    Raises:
        UserError: torch cannot, with its reason.
    """
    shapes: dict[int, Any] = {}
    if dynamic != "none":
        shapes[0] = torch.export.Dim("batch", min=1, max=BATCHES)
    if dynamic == "size":
        shapes[2] = shapes[3] = torch.export.Dim.DYNAMIC
    example = torch.zeros(2 if shapes else 1, 3, *size, dtype=torch.uint8)
    try:
        with torch.no_grad():
            return torch.export.export(graph, (example,), dynamic_shapes={"images": shapes or None})
    except Exception as error:  # torch's reasons have no one kind
        raise UserError(f"dynamic={dynamic}: torch.export cannot make a graph of this network "
                        f"({' '.join(str(error).split())[:300]})") from error  # fmt: skip
