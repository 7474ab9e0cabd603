import hydra
import numpy as np
import pytest
import torch

from engine.builders import parts
from engine.config.schema import CONFIGS
from engine.data.image import read_rgb
from engine.output import draw_anchors
from engine.output.draw import SMALLEST, colours
from engine.structures import BACKGROUND, IGNORE, Objects

GREY = np.full((SMALLEST, SMALLEST, 3), 200, np.uint8)  # darkened to 100
OBJECTS = Objects(torch.tensor([[100.0, 100, 200, 300], [300, 50, 400, 90]]), torch.tensor([0, 1]))


def grid(count, sides):
    """Slots of a count x count grid on the image, and their cells."""
    cell = SMALLEST / count
    middles = (torch.cartesian_prod(torch.arange(count), torch.arange(count)) + 0.5) * cell
    half = torch.tensor(sides) / 2
    slots = torch.cat([middles.flip(1) - half, middles.flip(1) + half], 1)
    return slots, torch.full((count**2, 2), cell)


def test_each_level_has_a_panel_with_one_cell_and_its_anchors():
    fine, coarse = grid(4, (100.0, 200.0)), grid(2, (100.0, 200.0))
    slots, cells = (torch.cat(pair) for pair in zip(coarse, fine, strict=True))
    drawn = draw_anchors.anchors(GREY, slots, cells)
    assert drawn.shape == (SMALLEST, 2 * SMALLEST, 3) and (GREY == 200).all()
    # Finest first: cells of 120, cell (2, 2) has its middle at 300; its anchor is 100 x 200.
    colour = colours(1)[0].tolist()
    assert drawn[300, 250].tolist() == drawn[300, 350].tolist() == colour
    assert drawn[200, 300].tolist() == drawn[400, 300].tolist() == colour
    assert (drawn[300, 300] == 200).all() and (drawn[300, 420] == 100).all()
    assert (drawn[60, 120] == draw_anchors.GRID).all()
    # Cells of 240, cell (1, 1): middle 360.
    panel = drawn[:, SMALLEST:]
    assert panel[360, 310].tolist() == panel[360, 410].tolist() == colour
    assert (panel[60, 240] == draw_anchors.GRID).all() and (panel[60, 120] == 100).all()
    same = (drawn == colour).all(2)
    assert not same[:150].any() and not same[:, 480:780].any()  # one anchor a level, no other


def test_matched_objects_by_hand():
    # Slots 0 and 3 are assigned to the second box, slot 1 to the first; the others to none.
    boxes = OBJECTS.boxes[[1, 0, 0, 1, 1]] + 0.01
    labels = torch.tensor([1, 0, BACKGROUND, 1, IGNORE])
    assert draw_anchors.matched_objects(boxes, labels, OBJECTS).tolist() == [1, 0, -1, 1, -1]
    nothing = torch.full((5,), BACKGROUND)
    assert draw_anchors.matched_objects(boxes, nothing, Objects.empty()).tolist() == [-1] * 5


def test_matches_are_drawn_by_object():
    slots = torch.tensor([[320.0, 200, 420, 280], [20, 320, 80, 400], [440, 400, 470, 470]])
    drawn = draw_anchors.matches(GREY, slots, torch.tensor([0, 1, -1]), OBJECTS)
    first, second = colours(2).tolist()
    assert drawn[200, 100].tolist() == first and drawn[70, 300].tolist() == second  # the objects
    assert drawn[240, 320].tolist() == first and drawn[360, 20].tolist() == second  # their slots
    assert (drawn[400:, 430:] == 100).all() and (GREY == 200).all()
    assert (draw_anchors.matches(GREY, slots, torch.full((3,), -1), Objects.empty()) == 100).all()


def test_five_hundred_objects_are_drawn():
    low = torch.rand(500, 2) * 400
    many = Objects(torch.cat([low, low + 20], 1), torch.zeros(500, dtype=torch.int64))
    drawn = draw_anchors.matches(GREY, many.boxes, torch.arange(500), many)
    assert drawn.shape == GREY.shape and (drawn != 100).any()


def network_and_loaders(*overrides):
    """Network and loaders of eight small images."""
    overrides = ["backbone=resnet18", "image_size=64", "dataset.size=64", "dataset.train=8",
            "dataset.val=4", "loader.workers=0", *overrides]  # fmt: skip
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=overrides)
    splits = [parts.dataset(cfg, split) for split in ("train", "val")]
    device = torch.device("cpu")
    loaders = [parts.loader(cfg, s, device, shuffle=i == 0) for i, s in enumerate(splits)]
    return parts.network(cfg, len(splits[0].classes), parts.backbone(cfg)), *loaders


def test_a_detectors_images_are_written_and_change_nothing(tmp_path):
    network, train, val = network_and_loaders("head.levels=3")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first = next(iter(train)).images
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    draw_anchors.write(network, train, val, tmp_path / "images")
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == ["anchors.png", *(f"matches_{i}.jpg" for i in range(draw_anchors.MATCHED))]
    assert read_rgb(str(tmp_path / "images" / "anchors.png")).shape == (480, 3 * 480, 3)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(next(iter(train)).images, first)


def test_the_matches_are_those_of_the_head():
    network, train, _ = network_and_loaders("head.levels=3")
    sample = train.loader.dataset[0, 0]
    output = network.eval()(torch.from_numpy(sample.image).permute(2, 0, 1)[None])
    assigned = network.head.assign(output, sample.objects)
    boxes = output.decoded(assigned.boxes)
    matched = draw_anchors.matched_objects(boxes[0], assigned.labels[0], sample.objects)
    assert set(matched.tolist()) == {-1, *range(len(sample.objects))}
    labels = sample.objects.labels[matched[matched >= 0]]
    assert torch.equal(labels, assigned.labels[0][matched >= 0])


@pytest.mark.parametrize(
    "overrides",
    [
        ["head=single", "loss=single", "metric=single"],
        ["model=resnet18", "loss=bce", "metric=multi_label"],
    ],
)
def test_one_slot_an_image_is_not_drawn(overrides, tmp_path):
    draw_anchors.write(*network_and_loaders(*overrides), tmp_path / "images")
    assert not (tmp_path / "images").exists()
