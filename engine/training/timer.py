"""How the time of a run is spent."""

import time

import torch


class StepTimer:
    """A stopwatch: call it with the name of a part when the part ends.

    Devices other than the CPU work asynchronously: each call waits for them, which slows the run
    but attributes the time to the right part.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def __call__(self, part: str) -> None:
        """Add the time since the last call to this part."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last = now

    def summary_lines(self) -> list[str]:
        """Return the lines of a table of the share of each part."""
        total = sum(self.seconds.values())
        lines = [f"{100 * s / total:5.1f} %  {part}" for part, s in self.seconds.items()]
        return [f"time per part, of {total:.1f} s:", *lines]
