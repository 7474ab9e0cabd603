import pytest
import torch
import torchvision

from classify.backbones.resnet import ResNet
from classify.heads import Linear
from engine.errors import UserError

PARAMETERS = {  # with a linear head of 1000 and of 20 classes
    "resnet18": (11_689_512, 11_186_772),
    "resnet34": (21_797_672, 21_294_932),
    "resnet50": (25_557_032, 23_549_012),
}


def head_on(backbone, classes):
    return Linear(channels=backbone.channels, num_classes=classes, activation="softmax")


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    with torch.device("meta"):
        backbone = ResNet(name=name)
        heads = [head_on(backbone, classes) for classes in (1000, 20)]
    counts = [
        sum(p.numel() for part in (backbone, head) for p in part.parameters()) for head in heads
    ]
    assert tuple(counts) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(224, 224), (97, 131)])
@pytest.mark.parametrize("name", PARAMETERS)
def test_channels_and_strides_are_as_declared(name, size):
    with torch.device("meta"):  # shapes only, nothing is computed
        backbone = ResNet(name=name).eval()
        maps = backbone(torch.empty(1, 3, *size))
    declared = zip(backbone.channels, backbone.strides, strict=True)
    assert backbone.strides == (4, 8, 16, 32)
    assert [tuple(m.shape) for m in maps] == [
        (1, c, -(-size[0] // s), -(-size[1] // s)) for c, s in declared
    ]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    backbone = ResNet(name=name)
    maps = backbone(torch.randn(2, 3, 48, 48))
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", PARAMETERS)
def test_equals_torchvisions_network(name):
    torch.manual_seed(0)
    ours = ResNet(name=name).eval()
    head = head_on(ours, 7)
    with torch.no_grad():
        for tensor in ours.state_dict().values():
            if tensor.is_floating_point():  # so that no two normalisations are alike
                tensor.mul_(1 + 0.1 * torch.rand_like(tensor))
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    names = {"stem.0": "conv1", "stem.1": "bn1"} | {
        f"stages.{i}": f"layer{i + 1}" for i in range(4)
    }
    state = {f"fc.{key}": tensor for key, tensor in head.linear.state_dict().items()}
    for key, tensor in ours.state_dict().items():
        prefix = ".".join(key.split(".")[:2])
        state[key.replace(prefix, names[prefix], 1)] = tensor
    theirs.load_state_dict(state)
    expected = []
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        layer.register_forward_hook(lambda _, __, out: expected.append(out))
    images = torch.randn(2, 3, 65, 96)
    with torch.no_grad():
        logits = theirs(images)
        maps = ours(images)
        said = head(maps, (65, 96)).logits[:, 0]
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(said, logits)


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="resnet19.*expected one of resnet18"):
        ResNet(name="resnet19")
