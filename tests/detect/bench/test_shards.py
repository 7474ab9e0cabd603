import pytest
import sets

from detect.bench import shards


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_server_that_answers_late_costs_little(tmp_path):
    truth = {f"p{i:03d}": [("cat", 1, 1, 30, 30)] for i in range(64)}
    sets.write_voc(tmp_path / "voc", {"train": list(truth), "val": ["p000"]}, truth)
    (row,) = shards.measure(
        root=[str(tmp_path / "voc")], images=64, side=600, batch=8, latency=20, repeats=3, seed=0
    )
    assert row["images"] == 64 and min(row[way] for way in shards.WAYS) > 0
    assert row["shards by http"] > 2 / 0.020  # what two requests at a time would give
    assert 0.3 < row["shards, busy"] < 3 and row["shards by http, busy"] > 0.3
