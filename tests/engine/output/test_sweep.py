"""The table that ends a sweep."""

import json

from engine.output.sweep import COLUMNS, show_end
from engine.output.table import format_csv


def job(folder, number, value, *overrides):
    (folder / number / ".hydra").mkdir(parents=True)
    (folder / number / ".hydra/overrides.yaml").write_text(json.dumps(overrides))
    made = {"primary_name": "mAP", "primary_value": value, "seconds": 12.34}
    (folder / number / "metrics.json").write_text(json.dumps(made))


def test_a_sweep_ends_with_its_table_best_first_and_what_failed(tmp_path, capsys):
    job(tmp_path, "0", 0.25, "optimizer=sgd", "seed=7")
    job(tmp_path, "1", None, "optimizer=adam", "seed=7")  # its metric was not finite
    job(tmp_path, "2", 0.41234, "optimizer=sgd", "seed=7", "clip=none")
    reasons = [["3", "optimizer=adamw", "no memory"]]
    (tmp_path / "failed.csv").write_text(format_csv(COLUMNS, reasons))
    show_end(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        f"sweep {tmp_path}: 3 done, best first; 1 failed",
        "all of them: seed=7",
        "job    mAP  optimizer  clip  seconds",
        "  2  0.412        sgd  none     12.3",
        "  0   0.25        sgd     -     12.3",
        "  1      -       adam     -     12.3",
        "failed: job 3 (optimizer=adamw): no memory",
    ]


def test_what_the_best_job_did_not_set_stands_before_the_seconds(tmp_path, capsys):
    job(tmp_path, "0", 0.5, "seed=7")
    job(tmp_path, "1", 0.25, "seed=7", "clip=none")
    show_end(tmp_path)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "all of them: seed=7",
        "job   mAP  clip  seconds",
        "  0   0.5     -     12.3",
        "  1  0.25  none     12.3",
    ]


def test_a_sweep_that_has_nothing_says_nothing(tmp_path, capsys):
    show_end(tmp_path)
    assert not capsys.readouterr().out
