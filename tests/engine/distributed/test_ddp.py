"""DDP and shards over a group of one process against the bare network: the same gradients."""

import hydra
import pytest
import torch
import torch.distributed as dist
from torch import nn

from engine.builders import parts
from engine.config.schema import CONFIGS, Compression
from engine.distributed import fsdp
from engine.distributed.ddp import Replica
from engine.structures import Batch

CPU = torch.device("cpu")
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
FAST = {"mobilenet_v1_025", "vit_tiny"}
SIDES = {"ssd300_vgg16": 300, "ssd512_vgg16": 512, "ssdlite_mobilenet_v3": 320, "yolo_v1": 224,
         "alexnet": 224, "alexnet_2012": 227, "vit_tiny": 32, "vit_b_16": 224}  # fmt: skip
SMALL = ["image_size=64", "backbone=mobilenet_v1_025"]


@pytest.fixture(autouse=True)
def group(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def made(*overrides):
    """A network in training and two of its batches."""
    torch.manual_seed(0)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", [*overrides, "dataset=shapes", "dataset.train=4",
                                      "loader.batch_size=2", "loader.workers=0"])  # fmt: skip
    data = parts.dataset(cfg, "train")
    network = parts.network(cfg, len(data.classes), parts.backbone(cfg)).train()
    return network, list(parts.loader(cfg, data, CPU, shuffle=True))


def preset(model):
    """Its network, two batches, and whether it is a detector."""
    is_detector = "_base/classifier" not in (CONFIGS / "model" / f"{model}.yaml").read_text()
    view = [] if is_detector else ["dataset.view=largest"]
    size = f"image_size={SIDES.get(model, 128)}"
    return *made(f"model={model}", size, *view), is_detector


def exchanging(network, compression=None):
    replica = Replica(network, compression)
    replica.exchanges = True  # though there is nobody to exchange with
    return replica


def gradients(network, forward, batches):
    """Of the sum of the batches' losses, by name; the last batch ends the step."""
    network.zero_grad()
    for number, batch in enumerate(batches, 1):
        torch.manual_seed(number)
        losses = network.losses(forward(batch, number == len(batches)), batch.objects)
        torch.stack(list(losses.values())).sum().backward()
    return {k: None if p.grad is None else p.grad.clone() for k, p in network.named_parameters()}


def assert_same_gradients(network, replica, batches):
    state = {key: value.clone() for key, value in network.state_dict().items()}
    expected = gradients(network, lambda batch, _: network(batch.images), batches)
    after = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(state)
    found = gradients(network, lambda batch, ends: replica(batch, averages=ends), batches)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            assert torch.equal(found[name], gradient), name
    for name, value in network.state_dict().items():
        assert torch.equal(value, after[name]), name  # batch statistics too


def without_objects(batch):
    none = torch.zeros(len(batch.objects.labels), dtype=torch.bool)
    return Batch(batch.images, batch.objects.select(none), batch.meta)


@pytest.mark.parametrize(
    "model", [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in MODELS]
)
def test_every_preset_has_the_gradients_of_the_bare_network(model):
    network, batches, is_detector = preset(model)
    replica = exchanging(network)
    assert_same_gradients(network, replica, batches[:1])
    if is_detector:
        assert_same_gradients(network, replica, [without_objects(batches[0])])
    assert_same_gradients(network, replica, batches)  # two batches a step
    assert not any(key.startswith("module.") for key in network.state_dict())


def test_parameters_that_join_later_are_averaged_too():
    network, batches = made(*SMALL, "head.levels=2", "trainer.l2=0.01")
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(False)
    replica = exchanging(network)
    assert_same_gradients(network, replica, batches)
    head = replica.ddp
    assert_same_gradients(network, replica, batches)
    assert replica.ddp is head  # once is enough
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(True)
    assert_same_gradients(network, replica, batches)
    assert replica.ddp is not head


def test_a_parameter_that_nothing_uses_has_no_gradient():
    network, batches = made(*SMALL, "head.levels=2")
    network.head.spare = nn.Linear(3, 3)
    replica = exchanging(network)
    for _ in range(2):
        assert_same_gradients(network, replica, batches)
    assert network.head.spare.weight.grad is None


def test_compressed_gradients_are_rounded_to_8_bits():
    network, batches = made(*SMALL, "head.levels=2")
    expected = gradients(network, lambda batch, _: network(batch.images), batches[:1])
    replica = exchanging(network, Compression.bf16)
    found = gradients(network, lambda batch, ends: replica(batch, averages=ends), batches[:1])
    rounded = {name: x.bfloat16().float() for name, x in expected.items() if x is not None}
    assert all(torch.equal(found[name], rounded[name]) for name in rounded)


def test_alone_nothing_is_wrapped():
    network, batches = made(*SMALL, "head.levels=2")
    replica = Replica(network)
    replica(batches[0])
    assert not replica.exchanges and replica.ddp is None


@pytest.mark.parametrize(
    "model", [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in MODELS]
)
def test_every_preset_in_shards_has_the_gradients_of_the_bare_network(model):
    network, batches, is_detector = preset(model)
    network.to(memory_format=torch.contiguous_format)
    steps = [batches, [without_objects(batches[0])]] if is_detector else [batches]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    expected = [gradients(network, lambda batch, _: network(batch.images), s) for s in steps]
    network.load_state_dict(state)
    fsdp.shard(network, CPU)
    replica = Replica(network)
    found = [gradients(network, lambda batch, _: replica(batch), s) for s in steps]
    for one, other in zip(expected, found, strict=True):
        for name, gradient in one.items():
            assert (other[name] is None) == (gradient is None), name
            if gradient is not None:
                difference = (fsdp.full_tensor(other[name]) - gradient).norm()
                assert difference <= 1e-3 * gradient.norm() + 1e-6, name
