"""Fine-tuning: which parts of a network train, from which epoch on, and at which learning rate.

A network is a list of groups by depth: those of its backbone, shallow first, then its head. Frozen
groups keep their weights and, in evaluation mode, the statistics of their batch normalisation.
"""

from typing import Any

from torch import nn

from engine.config.ranges import Count, Index, PositiveShare
from engine.console import info
from engine.errors import UserError
from engine.network import Group, groups, parameters


class Finetune:
    """Trains the whole network, or only its last groups.

    Args:
        last: how many of the backbone's groups train, counted from its end, besides the head; None
            for all.
        decay: the learning rate of a group is that of the next deeper one times this
            (discriminative fine-tuning, arXiv 1801.06146, 3.2; the paper uses 1 / 2.6).
        unfreeze_every: epochs between two unfreezings (gradual unfreezing, 3.3 of the same paper):
            the head trains alone at first, then one more group each time; None: all from the start.
    """

    def __init__(
        self,
        *,
        last: Index | None = None,
        decay: PositiveShare = 1.0,
        unfreeze_every: Count | None = None,
    ) -> None:
        if last is not None and last < 0:
            raise UserError(f"finetune.last={last}: expected 0 or more groups, or null for all")
        if not 0 < decay <= 1:
            raise UserError(f"finetune.decay={decay}: expected a factor above 0, at most 1")
        if unfreeze_every is not None and unfreeze_every < 1:
            raise UserError(
                f"finetune.unfreeze_every={unfreeze_every}: expected epochs >= 1, or null"
            )
        self.last, self.decay, self.unfreeze_every = last, decay, unfreeze_every
        self.reported: int | None = None  # groups that train, as far as is known; None: all

    def param_groups(self, network: Any) -> list[tuple[float, list[nn.Parameter]]]:
        """Return all parameters that ever train, as (factor of the learning rate, parameters).

        Parameters that are unfrozen later are in groups of their own: fused optimizers need all
        parameters of a group to have taken the same number of steps.
        """
        all_groups = groups(network)
        trainable = all_groups[-self._max_trainable(all_groups) :]
        param_groups: dict[tuple[float, int], list[nn.Parameter]] = {}
        for i, group in enumerate(trainable):
            factor = self.decay ** (len(trainable) - 1 - i)
            stage = 0 if self.unfreeze_every is None else i
            param_groups.setdefault((factor, stage), []).extend(parameters(group))
        return [(factor, params) for (factor, _), params in param_groups.items()]

    def __call__(self, network: Any, epoch: int) -> int:
        """Freeze the groups that do not train in this epoch (from 0); call it after `train()`.

        Returns:
            how many parameters train.
        """
        all_groups = groups(network)
        training = self._max_trainable(all_groups)
        if self.unfreeze_every is not None:
            training = min(training, 1 + epoch // self.unfreeze_every)
        frozen = len(all_groups) - training
        for i, group in enumerate(all_groups):
            for parameter in parameters(group):
                parameter.requires_grad_(i >= frozen)
            for member in group:
                if i < frozen and isinstance(member, nn.Module):
                    member.eval()
        sizes = [sum(p.numel() for p in parameters(group)) for group in all_groups]
        trained = sum(sizes[frozen:])
        if training != (len(all_groups) if self.reported is None else self.reported):
            which = "all" if not frozen else f"the last {training} of {len(all_groups)} groups:"
            info(f"epoch {epoch + 1}: {which} {trained:,} of {sum(sizes):,} parameters train")
        self.reported = training
        return trained

    def _max_trainable(self, all_groups: list[Group]) -> int:
        if self.last is not None and self.last >= len(all_groups):
            raise UserError(
                f"finetune.last={self.last}: got a network of {len(all_groups) - 1} groups before "
                "the last layers; set a smaller number, or null for all"
            )
        return len(all_groups) if self.last is None else 1 + self.last
