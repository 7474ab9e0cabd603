import numpy as np
import pytest
import torch

from detect.metrics.voc_map import VOCMap
from engine.export.compare import Spread
from engine.export.int8 import upstream
from engine.export.parity import Bars, Parity, match
from engine.record import Meta
from engine.structures import Objects

META = [Meta(0, "a", "a.jpg", (100, 100), np.eye(2, 3))]
A, B = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 90.0, 90.0]


def objects(*rows):
    """Of one image, a row (box, label, score) each."""
    boxes, labels, scores = zip(*rows, strict=True)
    return Objects(torch.tensor(boxes), torch.tensor(labels), scores=torch.tensor(scores))


def test_the_order_does_not_matter():
    one, other = objects((A, 0, 0.5), (B, 0, 0.5)), objects((B, 0, 0.5), (A, 0, 0.5))
    assert sorted(match(one, other).tolist()) == [[0, 1], [1, 0]]


def test_an_object_is_matched_once_and_only_within_its_class():
    one = objects((A, 0, 0.9), (A, 1, 0.8))
    assert match(one, objects((A, 1, 0.8), (A, 2, 0.9))).tolist() == [[1, 0]]
    near = [0.0, 0.0, 10.0, 10.25]
    pairs = match(objects((A, 0, 0.9)), objects((near, 0, 0.9), (A, 0, 0.9)))
    assert pairs.tolist() == [[0, 1]]


def parity(wanted, found):
    made = Parity((VOCMap(classes=["x", "y"]), VOCMap(classes=["x", "y"])))
    made.add(wanted, found, META, objects((A, 0, 1.0)))
    return made


@pytest.mark.parametrize(
    "found, failed",
    [
        (objects((A, 0, 0.9), (B, 1, 0.3)), []),
        (objects((A, 0, 0.9 + 1e-4), (B, 1, 0.3)), ["score"]),
        (objects(([0.0, 0.0, 10.0, 10.01], 0, 0.9), (B, 1, 0.3)), ["box"]),
        (objects((A, 0, 0.9)), ["unmatched"]),
        (objects((B, 1, 0.3)), ["unmatched", "metric"]),
    ],
)
def test_each_bar_is_passed_over_by_its_own_difference(found, failed):
    report = parity(objects((A, 0, 0.9), (B, 1, 0.3)), found).report(Bars(), both_ways=True)
    assert report["failed"] == failed and report["objects"] == 2 and report["images"] == 1
    assert report["checkpoint"]["mAP"] == 1.0  # of the class that the truth has


def test_int8_may_cost_so_much_of_the_metric_and_no_more():
    worse = parity(objects((A, 0, 0.9)), objects((B, 1, 0.3)))
    bars = Bars(None, None, None, None, 0.01)
    assert worse.report(bars, both_ways=False)["failed"] == ["metric"]
    better = parity(objects((B, 1, 0.3)), objects((A, 0, 0.9)))
    assert better.report(bars, both_ways=False)["failed"] == []


def test_raw_outputs_are_compared_relative_to_the_largest():
    made = parity(objects((A, 0, 0.9)), objects((A, 0, 0.9)))
    made.add_raw({"logits": torch.tensor([-4.0, 1.0])}, {"logits": torch.tensor([-4.0, 1.001])})
    assert made.raw["logits"] == pytest.approx(0.00025, rel=1e-3)
    assert made.report(Bars(), both_ways=True)["failed"] == ["raw"]


def test_a_difference_that_is_no_number_fails():
    made = parity(objects((A, 0, 0.9)), objects((A, 0, 0.9)))
    made.add_raw({"logits": torch.ones(2)}, {"logits": torch.tensor([1.0, torch.nan])})
    assert made.report(Bars(), both_ways=True)["failed"] == ["raw"]


def test_the_worst_image_is_named():
    made = Parity((VOCMap(classes=["x"]), VOCMap(classes=["x"])))
    true = objects((A, 0, 1.0))
    for name, box in (("good", A), ("bad", [0.0, 0.0, 10.0, 10.5]), ("fair", A)):
        meta = [META[0]._replace(path=name)]
        made.add(objects((A, 0, 0.9)), objects((box, 0, 0.9)), meta, true)
    assert made.report(Bars(), both_ways=True)["worst_image"] == "bad"


def test_images_are_spread_over_a_split():
    class Data:
        classes = ["x"]

        def __len__(self):
            return 100

        def record(self, index):
            return index

    assert [Spread(Data(), 5).record(i) for i in range(5)] == [0, 25, 50, 74, 99]
    assert len(Spread(Data(), 500)) == 100 and Spread(Data(), 5).classes == ["x"]


def test_the_last_layers_and_what_follows_them_stay_in_float():
    # input -> a -> b -> boxes; b -> scores -> sigmoid; a -> c -> scores2
    inputs = {"out1": ["boxes"], "out2": ["sigmoid"], "sigmoid": ["scores"], "boxes": ["b"],
              "scores": ["b"], "b": ["a"], "a": []}  # fmt: skip
    kinds = {"boxes": "Conv", "scores": "Gemm", "a": "Conv", "b": "Conv"}
    before = upstream(["out1", "out2"], inputs.__getitem__, lambda node: kinds.get(node, "Add"))
    assert sorted(before) == ["a", "b"]
