"""leaderboard.csv, and the table that ends a sweep."""

import csv

from engine.output.leaderboard import Job, show_end, write


def done(number, value, *overrides):
    return Job(number, "done", overrides, {"mAP": value}, 3, 12.34, 0)


JOBS = [
    done("0", 0.25, "optimizer=sgd", "seed=7"),
    done("1", None, "optimizer=adam", "seed=7"),  # its metric was not finite
    done("2", 0.41234, "optimizer=sgd", "seed=7", "clip=none"),
    Job("3", "failed", ["optimizer=adamw", "seed=7"], code=2, reason="no memory"),
    Job("4", "pruned", ["optimizer=sgd", "seed=7"], {"mAP": 0.5}, 1, 2.0, 143),
]


def test_the_leaderboard_has_every_job_in_every_state_best_first(tmp_path):
    write(tmp_path, JOBS)
    with open(tmp_path / "leaderboard.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["job", "state", "mAP", "epochs", "seconds", "code", "reason",
                             "optimizer", "seed", "clip"]  # fmt: skip
    assert [row["job"] for row in rows] == ["2", "0", "1", "4", "3"]
    assert [row["state"] for row in rows] == ["done", "done", "done", "pruned", "failed"]
    assert rows[4]["code"] == "2" and rows[4]["reason"] == "no memory"


def test_less_is_better_of_seconds(tmp_path):
    write(tmp_path, [Job(str(n), "done", (), {"seconds": s}) for n, s in enumerate((3.0, 1.0))])
    text = (tmp_path / "leaderboard.csv").read_text()
    assert text.split() == [
        "job,state,seconds,epochs,code,reason",
        "1,done,1.0,,,",
        "0,done,3.0,,,",
    ]


def test_a_sweep_ends_with_its_table_best_first_and_what_failed(tmp_path, capsys):
    write(tmp_path, JOBS)
    show_end(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        f"sweep {tmp_path}: 3 done, 1 pruned, 1 failed",
        "all of them: seed=7",
        "job    mAP  epochs  seconds  optimizer  clip",
        "  2  0.412       3     12.3        sgd  none",
        "  0   0.25       3     12.3        sgd     -",
        "  1      -       3     12.3       adam     -",
        f"best: {tmp_path}/2, by python train.py optimizer=sgd seed=7 clip=none",
        "failed: job 3 (optimizer=adamw): no memory",
    ]


def test_of_many_jobs_the_best_ten_are_shown(tmp_path, capsys):
    write(tmp_path, [done(str(n), n / 100) for n in range(12)])
    show_end(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14 and lines[2].split()[0] == "11"
    assert lines[-1] == f"and 2 more: {tmp_path}/leaderboard.csv"


def test_what_all_jobs_set_is_no_column(tmp_path, capsys):
    write(tmp_path, [done("0", 0.5, "seed=7", "clip=none")])
    show_end(tmp_path)
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "all of them: seed=7 clip=none", "job  mAP  epochs  seconds"]  # fmt: skip


def test_a_sweep_that_has_nothing_says_nothing(tmp_path, capsys):
    show_end(tmp_path)
    assert not capsys.readouterr().out
