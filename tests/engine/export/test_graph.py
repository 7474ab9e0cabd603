"""The graph of every head, run by torch itself, against the network's own decoding."""

import pytest
import torch
from heads import CHANNELS, HEADS, SIZE, make
from torch import nn

from classify.heads.attention import Attention
from classify.heads.linear import Linear
from detect.heads.single import Single
from engine.errors import UserError
from engine.export.graph import Graph, program
from engine.network import Network
from engine.structures import Fixed

CLASSIFIERS = {
    "linear": lambda: Linear(channels=CHANNELS, num_classes=5, activation="softmax", top=3),
    "linear, sigmoid": lambda: Linear(channels=CHANNELS, num_classes=5, activation="sigmoid"),
    "attention": lambda: Attention(
        channels=CHANNELS, num_classes=5, activation="softmax", kind="local"
    ),
    "single": lambda: Single(channels=CHANNELS, num_classes=5, activation="softmax"),
    "single box": lambda: Single(
        channels=CHANNELS, num_classes=5, activation="softmax", predict_classes=False
    ),
    "single class": lambda: Single(
        channels=CHANNELS, num_classes=5, activation="softmax", predict_boxes=False
    ),
}


class Backbone(nn.Module):
    """Maps of the strides that the heads of `heads.py` take."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        widths = (3, *CHANNELS)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=4 if a == 3 else 2, padding=1)
            for a, b in zip(widths, CHANNELS, strict=False)
        )

    def forward(self, x):
        maps = []
        for layer in self.layers:
            x = layer(x).relu()
            maps.append(x)
        return maps


def without_ties(head, inputs, output):
    """Logits apart by noise: of equal scores either may come first."""
    if output.logits is None:
        return output
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(output.logits.shape, generator=draw)
    return output._replace(logits=output.logits + noise)


def network(name):
    head = CLASSIFIERS[name]() if name in CLASSIFIERS else make(name)
    for parameter in head.parameters():  # initial heads give all slots one score
        nn.init.normal_(parameter, std=0.02 if name == "yolo_v1, linear" else 0.2)  # clamped to 1
    head.register_forward_hook(without_ties)
    return Network(backbone=Backbone(), head=head, criterion=None).eval()


def images(count=3):
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize("name", [*HEADS, *CLASSIFIERS])
def test_the_graph_gives_the_objects_of_the_network(name):
    net, x = network(name), images()
    graph, output = Graph(net, nms=True), net(x)
    values = dict(zip(graph.names, graph(x), strict=True))
    wanted = net.decode(output)
    whole = torch.tensor([0.0, 0.0, *SIZE[::-1]]).expand(*values["scores"].shape, 4)
    got = Fixed(values.get("boxes", whole), values["scores"], values["labels"]).objects()
    assert len(wanted) > 2
    for field in ("boxes", "labels", "scores", "batch_index"):
        torch.testing.assert_close(getattr(got, field), getattr(wanted, field))
    for field, tensor in output.numbers.items():
        assert torch.equal(values[f"raw_{field}"], tensor)


@torch.no_grad()
@pytest.mark.parametrize("name", ["retina", "ssd_paper", "linear"])
def test_without_nms_it_gives_what_the_network_chooses_among(name):
    net, x = network(name), images()
    graph = Graph(net, nms=False)
    values = dict(zip(graph.names, graph(x), strict=True))
    boxes, scores = net.head.candidates(net(x))
    assert torch.equal(values["scores"], scores) and ("boxes" in values) == (name != "linear")
    if "boxes" in values:
        assert torch.equal(values["boxes"], boxes)


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [
        "retina, light, softmax",
        pytest.param("yolo_v2", marks=pytest.mark.slow),
        pytest.param("single", marks=pytest.mark.slow),
    ],
)
def test_torchs_program_runs_at_other_batches_and_sizes(name):
    net = network(name)
    net.head._forward_hooks.clear()
    graph = Graph(net, nms=False)
    made = program(graph, SIZE, "size").module()
    for x in (images(1), images(4)[..., :96], images(2)[:, :, :96]):
        for ours, its in zip(graph(x), made(x), strict=True):
            torch.testing.assert_close(its, ours)


def test_a_second_stage_is_refused():
    net = network("linear")
    net.head = nn.Identity()
    net.head.outputs = frozenset({"regions"})
    with pytest.raises(UserError, match="detectors of one stage can be exported"):
        Graph(net, nms=True)
