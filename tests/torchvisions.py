"""torchvision's detectors as judges: small ones of its own classes, its losses and detections."""

import hydra
import torch
from torch import nn

from engine.config.schema import CONFIGS
from engine.data.image import read_rgb
from engine.network import Network
from engine.structures import Objects


def shaken(net):
    """Numbers of its own everywhere, so that no tensor can be taken for another, and spread."""
    torch.manual_seed(0)
    for key, tensor in net.state_dict().items():
        if key.endswith("running_var") or (tensor.ndim == 1 and key.endswith("weight")):
            nn.init.uniform_(tensor, 0.8, 1.2)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.1)
        elif tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor, nonlinearity="relu")
    return net


def settled(net, images, class_layers, box_layers):
    """As if it had seen these images: maps normalised, logits of spread 1.5, codes of .3."""
    normal, _ = net.transform(list(images / 255))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net.train().backbone(normal.tensors)
        said = net.eval().head(list(net.backbone(normal.tensors).values()))
        for key, layers, spread in (
            ("cls_logits", class_layers, 1.5),
            ("bbox_regression", box_layers, 0.3),
        ):
            for layer in layers:
                layer.weight.mul_(spread / said[key].std())
    return net


def network(backbone, head, criterion):
    """Ours, in evaluation mode, normalising as its weights want."""
    said = backbone.pretrained.preprocessing
    return Network(
        backbone=backbone, head=head, criterion=criterion, mean=said.mean, std=said.std
    ).eval()


def images(number, size):
    """[B, 3, H, W] uint8: noise, coarse and fine."""
    torch.manual_seed(1)
    coarse = nn.functional.interpolate(torch.rand(number, 3, 9, 11), size, mode="bilinear")
    return ((0.7 * coarse + 0.3 * torch.rand(number, 3, *size)) * 255).byte()


def real(folder, size):
    """[2, 3, H, W] uint8: an image of COCO, stretched, and its mirror image."""
    path = sorted(folder.glob("coco_tiny/val2017/*.jpg"))[0]
    image = torch.from_numpy(read_rgb(str(path))).permute(2, 0, 1)[None].float()
    small = nn.functional.interpolate(image, size, mode="bilinear", antialias=True).byte()
    return torch.cat([small, small.flip(3)])


def objects(number, size, classes, each=6):
    """Truth of a batch; the second image has none."""
    torch.manual_seed(2)
    height, width = size
    low = torch.rand(number * each, 2) * 0.7
    high = low + torch.rand(number * each, 2) * (0.95 - low) + 0.05
    boxes = torch.cat([low, high], 1) * torch.tensor([width, height, width, height])
    image = torch.arange(number).repeat_interleave(each)
    truth = Objects(boxes, torch.randint(0, classes, (len(image),)), image)
    return truth.select(image != 1)


def targets(truth, number):
    """Ours -> torchvision's, whose first class is the background."""
    mine = [truth.of(i) for i in range(number)]
    return [{"boxes": o.boxes, "labels": o.labels + 1} for o in mine]


def losses(net, images, truth):
    """torchvision's losses, with normalisation by its running numbers."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net(list(images / 255), targets(truth, len(images)))


def said(ours, net, images):
    """What ours says about images that torchvision has normalised.

    Its rounding differs from ours in the last bit, which a deep net of random numbers makes large.
    """
    normal, _ = net.transform(list(images / 255))
    torch.testing.assert_close((images - ours.mean) / ours.std, normal.tensors, atol=1e-4, rtol=0)
    return ours.head(ours.backbone(normal.tensors), tuple(images.shape[2:]))


def assert_found_alike(found, theirs):
    """The same objects, best first."""
    for i, image in enumerate(theirs):
        mine = found.of(i)
        assert len(mine) == len(image["scores"]) > 20
        assert torch.equal(mine.labels, image["labels"] - 1)
        torch.testing.assert_close(mine.scores, image["scores"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine.boxes, image["boxes"], atol=1e-4, rtol=1e-4)


def configured(group, name):
    """The node of one option as a command composes it."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=[f"{group}={name}"])[group]
