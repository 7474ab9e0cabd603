"""Where the time of a run goes."""

import time

import torch


class StepTimer:
    """A stopwatch that is told the name of each part when the part is over.

    Other devices than the CPU work behind the program's back: there it waits for them, which slows
    the run but gives each part its own time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def __call__(self, part: str) -> None:
        """What went by since the last call was this part."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last = now

    def summary_text(self) -> str:
        """The share of each part, to read."""
        whole = sum(self.seconds.values())
        lines = [f"{100 * s / whole:5.1f} %  {part}" for part, s in self.seconds.items()]
        return "\n".join([f"where {whole:.1f} s went:", *lines])
