"""Builds a run at its first step from the configuration and its network."""

from math import inf

import torch
from omegaconf import DictConfig
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from engine.builders.compatibility import check_shardable
from engine.builders.instantiate import part
from engine.config.schema import Precision
from engine.console import info
from engine.distributed import collectives, fsdp
from engine.errors import UserError
from engine.network import Network
from engine.protocols import ScheduleOptions
from engine.training.ema import Average
from engine.training.guard import Guard
from engine.training.optimizer import build_optimizer
from engine.training.precision import resolve, widen
from engine.training.run import Clock, Run
from engine.training.timer import StepTimer


def prepare(
    cfg: DictConfig,
    network: Network,
    batches: int,
    device: torch.device,
    precision: Precision | None = None,
) -> Run:
    """The run at its first step, its network on the device.

    Args:
        cfg: the whole configuration.
        network: moved to the device.
        batches: the number in an epoch.
        device: where it trains.
        precision: already resolved; None resolves the configuration's.

    Raises:
        UserError: naming the keys that do not work here.
    """
    precision = precision or resolve(cfg.trainer.precision, device)
    _note_accumulation(cfg, network)
    network, ema = _placed(cfg, network, device, precision)
    finetune = part(cfg.finetune, "finetune")
    epochs = inf if cfg.trainer.epochs is None else cfg.trainer.epochs
    clock = Clock(epochs * -(-batches // cfg.trainer.accumulate), cfg.trainer.minutes)
    try:
        optim = build_optimizer(finetune.param_groups(network), part(cfg.optimizer, "optimizer"))
    except ValueError as error:  # torch's own check of its arguments
        raise UserError(f"optimizer: {error}") from error
    factor = part(cfg.schedule, "schedule")
    return Run(
        network=network,
        ema=ema,
        optimizer=optim,
        schedule=LambdaLR(optim, lambda _: factor(clock.done)),
        scaler=torch.amp.GradScaler(device.type, enabled=precision.name == "fp16"),
        clip=part(cfg.clip, "clip"),
        finetune=finetune,
        guard=Guard(network=network, limit=cfg.trainer.max_skipped, device=device),
        clock=clock,
        device=device,
        precision=precision,
        accumulate=cfg.trainer.accumulate,
        compression=cfg.trainer.compress_gradients,
        plateau_factor=ScheduleOptions.plateau_factor.of(factor),
        mark=StepTimer(device) if cfg.profile else lambda part: None,
    )


def _note_accumulation(cfg: DictConfig, network: Network) -> None:
    """Print in what a step of several batches is not one of a batch of all their images.

    The number of a detector's positives, which its loss is divided by, is known only when a batch
    has passed the network, and then the batches before it are gone.
    """
    count = cfg.trainer.accumulate
    normalised = any(isinstance(module, _BatchNorm) for module in network.modules())
    own = ["divisor of its loss, the number of its objects"] * ("boxes" in network.head.outputs)
    own += ["batch statistics"] * normalised
    if count > 1 and own:
        info(
            f"trainer.accumulate={count}: each of the {count} batches of a step has its own "
            f"{' and its own '.join(own)}, so a step is close to, not equal to, that of "
            f"loader.batch_size={count * cfg.loader.batch_size}"
        )


def _placed(
    cfg: DictConfig, network: Network, device: torch.device, precision: Precision
) -> tuple[Network, AveragedModel | None]:
    """The network on the device, equal in all processes, in shards if asked for; its average."""
    network = network.to(device)
    if cfg.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.trainer.sync_bn:
        network = collectives.sync_bn(network, device)
    collectives.broadcast_weights(network)
    if device.type == "cpu" and precision is Precision.bf16:
        widen(network)
    if cfg.trainer.compile:
        network.compile()
    torch.backends.cudnn.benchmark = cfg.trainer.benchmark
    ema = Average(network, cfg.trainer.ema) if cfg.trainer.ema else None
    if cfg.trainer.shard:
        check_shardable(cfg, precision)
        for net in (network,) if ema is None else (network, ema.module):
            sent = torch.bfloat16 if cfg.trainer.compress_gradients else None
            fsdp.shard(net, device, sent)
    return network, ema
