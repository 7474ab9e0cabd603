"""A training that takes no time, in the place of one that loads torch: what a search sees of it.

Its metric at epoch e of n is quality x e / n, where quality is `optimizer.lr`; `clip.max=0.5` makes
it fail, and `hang=...` of the environment keeps it from ending.
"""

import json
import signal
import sys
import time
from pathlib import Path

EPOCHS = 10


def main() -> None:
    """Train, or go on, in hydra.run.dir."""
    given = dict(text.split("=", 1) for text in sys.argv[1:] if "=" in text)
    folder = Path(given["hydra.run.dir"].strip("'"))
    quality = float(given["optimizer.lr"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # each epoch is saved
    if given.get("clip.max") == "0.5":
        print("error: clip.max=0.5: this one fails", flush=True)
        sys.exit(2)
    path = folder / "metrics.csv"
    done = len(path.read_text().splitlines()) - 1 if path.exists() else 0
    rows = ["epoch,val/top1,val/loss,seconds"]
    for epoch in range(1, EPOCHS + 1):
        rows.append(f"{epoch},{quality * epoch / EPOCHS},1.0,{epoch}.0")
        if epoch > done:
            time.sleep(float(given.get("optimizer.weight_decay", 0.01)))
            temporary = folder / "metrics.new"
            temporary.write_text("\n".join(rows) + "\n")
            temporary.rename(path)
            with open(folder / "trained.txt", "a") as trained:
                trained.write(f"{epoch}\n")
    metrics = {"primary_name": "top1", "primary_value": quality, "metrics": {"top1": quality},
               "seconds": float(EPOCHS)}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
