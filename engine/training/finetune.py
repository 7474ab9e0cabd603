"""Which parts of a network train, from which epoch on, and how fast.

A network is a list of groups by depth: those of its backbone, shallow first, then its head. What is
frozen keeps its weights and, being in evaluation mode, the statistics of its batch normalisation.
"""

from typing import Any

from torch import nn

from engine.console import info
from engine.errors import UserError
from engine.network import Group, groups, parameters


class Finetune:
    """All of the network trains, or only its last groups.

    Args:
        last: of the backbone's groups so many last ones train, and the head; None for all.
        decay: the learning rate of a group is that of the next deeper one times this
            (discriminative fine-tuning, arXiv 1801.06146, 3.2; they take 1 / 2.6).
        unfreeze_every: gradual unfreezing (the same, 3.3): the head alone trains at first, then
            every so many epochs one group more; None for no such thing.
    """

    def __init__(
        self, *, last: int | None = None, decay: float = 1.0, unfreeze_every: int | None = None
    ) -> None:
        if last is not None and last < 0:
            raise UserError(f"finetune.last={last}: expected 0 or more groups, or null for all")
        if not 0 < decay <= 1:
            raise UserError(f"finetune.decay={decay}: expected a factor above 0, at most 1")
        if unfreeze_every is not None and unfreeze_every < 1:
            raise UserError(f"finetune.unfreeze_every={unfreeze_every}: expected epochs, or null")
        self.last, self.decay, self.unfreeze_every = last, decay, unfreeze_every
        self.said = 0  # groups that train, as the console knows it

    def param_groups(self, network: Any) -> list[tuple[float, list[nn.Parameter]]]:
        """What will ever train, with the factor of its learning rate.

        What starts to train later stands apart: fused optimizers want parameters of one age.
        """
        found = groups(network)
        kept = found[-self._most(found) :]
        param_groups: dict[tuple[float, int], list[nn.Parameter]] = {}
        for i, group in enumerate(kept):
            factor = self.decay ** (len(kept) - 1 - i)
            age = 0 if self.unfreeze_every is None else i
            param_groups.setdefault((factor, age), []).extend(parameters(group))
        return [(factor, held) for (factor, _), held in param_groups.items()]

    def __call__(self, network: Any, epoch: int) -> int:
        """Freeze what does not train in this epoch, counted from 0; call it after `train()`.

        Returns:
            how many parameters train.
        """
        found = groups(network)
        training = self._most(found)
        if self.unfreeze_every is not None:
            training = min(training, 1 + epoch // self.unfreeze_every)
        frozen = len(found) - training
        for i, group in enumerate(found):
            for parameter in parameters(group):
                parameter.requires_grad_(i >= frozen)
            for member in group:
                if i < frozen and isinstance(member, nn.Module):
                    member.eval()
        sizes = [sum(p.numel() for p in parameters(group)) for group in found]
        trained = sum(sizes[frozen:])
        if training != self.said:
            which = "all" if not frozen else f"the last {training} of {len(found)} groups:"
            info(f"epoch {epoch + 1}: {which} {trained:,} of {sum(sizes):,} parameters train")
            self.said = training
        return trained

    def _most(self, found: list[Group]) -> int:
        if self.last is not None and self.last >= len(found):
            raise UserError(
                f"finetune.last={self.last}: there are {len(found) - 1} groups before the last "
                "layers; say null for all"
            )
        return len(found) if self.last is None else 1 + self.last
