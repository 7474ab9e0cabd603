"""A dataset as WebDataset tars: python -m engine.shard dataset=... out=FOLDER [shard_size=256].

Writes <split>-000000.tar, <split>-000001.tar ... of train, val and test (or of split=), an index
beside each, and shards.json, which names classes and tars. A tar holds for each image its file as
it is (KEY.jpg, KEY.png ...), KEY.json with the truth (`engine.data.shard_truth`) and, of one class
an image, KEY.cls with the class's number. KEY counts the images of the split.
`dataset=shards dataset.root=FOLDER` gives the same records in the same order.
"""

from typing import Any

from engine.cli import command
from engine.errors import UserError


@command("shard")
def main(cfg: Any) -> None:
    """Write the tars of the configured dataset."""
    if cfg.out is None:
        raise UserError("out=FOLDER: the folder that gets the tars, set it")

    from engine.shard.write import write_shards  # torch loads only now

    write_shards(cfg)


if __name__ == "__main__":
    main()
