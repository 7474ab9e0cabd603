"""A part of torchrun's store of its own for each start of a group of processes.

torchrun keeps one store while it restarts processes, and the addresses of those that have ended
stay in it: a new group would connect to them. The counts of restarts in the environment may differ
from machine to machine, so the processes of a start find each other by numbers that they draw.
"""

import time
import uuid

from torch.distributed import PrefixStore, Store

POLL = 0.02  # seconds


def own_part(store: Store, rank: int, count: int) -> Store:
    """Return the part of the store for this start of the group; call it in all processes.

    Args:
        store: that all of them see, with whatever earlier starts left there.
        rank: the number of this process.
        count: how many processes the group has; those of earlier starts have ended.
    """
    me = uuid.uuid4().hex
    if rank:
        store.set(f"here/{rank}", me)
        name = store.get(f"start/{me}").decode()
        store.set(f"{name}/{rank}", "joined")
        return PrefixStore(name, store)
    missing = set(range(1, count))
    while missing:
        for other in sorted(missing):  # what it wrote may be of an earlier start: then nobody reads
            store.set(f"start/{store.get(f'here/{other}').decode()}", me)
        missing = {other for other in missing if not store.check([f"{me}/{other}"])}
        time.sleep(POLL if missing else 0)
    return PrefixStore(me, store)
