"""Train and evaluate in one, two or three processes, for `test_distributed.py`.

    python tests/shares.py FOLDER 2

Writes the results of two processes to `2.pt` of the folder, which has `1.pt` already. Processes are
forked from one that has torch loaded, or their start would take most of the time.
"""

import copy
import logging
import os
import sys
from pathlib import Path

import cv2
import hydra
import numpy as np
import torch
import torch.distributed as dist
from epochs import epoch
from torch import nn

from engine.builders import judged_parts, parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS, Precision
from engine.distributed import collectives, fsdp, processes
from engine.record import Meta
from engine.training.guard import Guard
from engine.training.loop import evaluate_network
from engine.weights import checkpoint

CPU = torch.device("cpu")
SMALL = ["image_size=64", "loader.batch_size=6", "loader.workers=0",
         "trainer.epochs=2", "trainer.ema=0.9", "trainer.precision=fp32", "device=cpu",
         "optimizer=momentum", "optimizer.lr=0.001"]  # fmt: skip
MOBILE = "backbone=mobilenet_v1_025"
SHAPES = [MOBILE, "dataset=shapes", "dataset.size=64", "dataset.train=30", "dataset.val=101"]
SHARDS = ["trainer.shard=true", "optimizer.fused=false"]
NETWORKS = {
    "classifier": [MOBILE, "head=linear", "loss=cross_entropy", "metric=top_k",
                   "dataset=image_folder"],
    "focal": [*SHAPES, "head.levels=2", "trainer.accumulate=2", "metric=coco_map"],
    "multibox": [*SHAPES, "head.levels=2", "loss=multibox", "loss/box=giou"],
    "per_image": [*SHAPES, "head=retina_light", "loss=focal_retina", "trainer.l2=1e-4"],
    "shards": ["model=vit_tiny", "image_size=32", "backbone.positions=32", "dataset=image_folder",
               "optimizer.fused=false", "clip=global_norm", "clip.max=1", "trainer.shard=true",
               "optimizer.lr=0.002"],
    "shards_ssd": [*SHAPES, "head.levels=2", "trainer.accumulate=2", *SHARDS],
    "shards_yolo": [*SHAPES, "head=yolo_v3", "loss=yolo_v3", "image_size=64", *SHARDS],
}  # fmt: skip


EVALUATED = ["classifier", "focal", "shards"]


def draw(folder):
    """Write 30 training and 101 validation images of three colours in `image_folder`'s layout."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 101)):
        for i in range(count):
            image = rng.integers(0, 200, (64, 64, 3), np.uint8)
            image[..., i % 3] += 50
            path = folder / split / "bgr"[i % 3] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)


def without_batch_statistics(module):
    """Replace batch by group normalisation, which does not depend on how a batch is divided."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        else:
            without_batch_statistics(child)


def compose(name, folder):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        root = [f"dataset.root={folder}"] if "dataset=image_folder" in NETWORKS[name] else []
        return hydra.compose("train", overrides=[*SMALL, *NETWORKS[name], *root])


def trained(name, cfg, folder):
    """Return weights after 10 batches, their rows, and scores of one process's weights."""
    cfg.trainer.shard &= processes.world() > 1
    torch.manual_seed(processes.rank())  # the first process's weights count
    train = parts.loader(cfg, parts.dataset(cfg, "train"), CPU, shuffle=True)
    val = parts.loader(cfg, parts.dataset(cfg, "val"), CPU)
    classes = train.dataset.classes
    net = parts.network(cfg, len(classes), parts.backbone(cfg))
    without_batch_statistics(net)
    run = prepare(cfg, net, len(train), CPU)
    rows = [epoch(run, train) for _ in range(cfg.trainer.epochs)]
    state = copy.deepcopy(run.state())
    ends = {"weights": state["model"], "ema": state["ema"], "rows": rows}
    if name not in EVALUATED:
        return ends
    if processes.world() > 1:
        first = torch.load(folder / "1.pt", weights_only=True)[name]["ema"]
        checkpoint.load_weights(run.evaluated, first, "1.pt")
    metric = judged_parts.metric(cfg, classes)
    with fsdp.unsharded(run.evaluated):
        scores, predicted = evaluate_network(run.evaluated, val, metric, CPU, Precision.fp32)
    ends["poisoned"] = poisoned(run, train)
    return ends | {"scores": scores, "found": [m.id for _, meta in predicted for m in meta]}


def poisoned(run, train):
    """Return how many steps an epoch skips, and whether each process's weights are unchanged.

    The loss is not finite in the last process alone.
    """
    losses, last = run.network.losses, processes.rank() == processes.world() - 1
    run.network.losses = lambda *given: {
        name: value * (float("nan") if last else 1) for name, value in losses(*given).items()
    }
    weights = [fsdp.local_shard(p) for p in run.network.parameters()]
    before = [w.clone() for w in weights]
    row = epoch(run, train)
    still = all(map(torch.equal, before, weights))
    return {"skipped": row["train/skipped"], "still": collectives.all_gather([still])}


def bad_step():
    """Return the messages of a step whose loss is not finite in the last process alone."""
    messages, guard = [], Guard(network=nn.Identity(), limit=9, device=CPU)
    logger, listener = logging.getLogger("onelook"), logging.Handler()
    listener.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    last = processes.rank() == processes.world() - 1
    guard.watch([Meta(0, 0, f"{processes.rank()}.jpg", (1, 1), None)])  # type: ignore[arg-type]
    loss = torch.tensor(float("nan" if last else "1"))
    guard.finite(collectives.mean_losses({"class": loss})["class"])
    guard.is_bad_step(torch.tensor(1.0))
    guard.report(1)
    logger.removeHandler(listener)
    return {"messages": messages, "bad_in_a_row": guard.bad_in_a_row}


def delayed_max():
    """Return what each process receives when the last one sends 15 in the second call."""
    exchange = collectives.DelayedAllReduceMax()
    last = processes.rank() == processes.world() - 1
    return collectives.all_gather([[exchange(15 if last and i == 1 else 0) for i in range(4)]])


def work(configurations, folder):
    """Do the work of this process."""
    torch.set_num_threads(1)
    found = {name: trained(name, cfg, folder) for name, cfg in configurations.items()}
    found |= {"bad_step": bad_step(), "delayed_max": delayed_max()}
    found["order"] = list(
        collectives.gather_in_order(range(processes.rank(), 7, processes.world()))
    )
    scores = collectives.all_gather([repr([found[name]["scores"] for name in EVALUATED])])
    assert len(set(scores)) == 1, scores
    if processes.rank() == 0:
        torch.save(found, folder / f"{processes.world()}.pt")


def main():
    """Fork the processes and wait for them."""
    folder, world = Path(sys.argv[1]), int(sys.argv[2])
    draw(folder)
    configurations = {name: compose(name, folder) for name in NETWORKS}
    pids = []
    for rank in range(world):
        pids.append(os.fork())
        if not pids[-1]:
            if world > 1:
                store = dist.FileStore(str(folder / f"store{world}"), world)
                dist.init_process_group("gloo", rank=rank, world_size=world, store=store)
            work(configurations, folder)
            os._exit(0)
    if any([os.waitpid(pid, 0)[1] for pid in pids]):
        sys.exit(f"a process of {world} failed")


if __name__ == "__main__":
    main()
