"""The global random states of Python, numpy and torch: seeded, saved and restored."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global random generators of Python, numpy and torch.

    Augmentation uses none of them: it draws from (seed, epoch, index).
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """Return every global random state as plain tensors, lists and numbers."""
    version, words, gauss = random.getstate()
    algorithm, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [algorithm, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(states: dict[str, Any]) -> None:
    """Restore what `random_states` returned; CUDA's only if the number of GPUs is the same."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in states["cuda"]])
