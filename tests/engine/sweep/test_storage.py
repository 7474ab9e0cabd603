"""What a search keeps: Optuna's journal, and who of several sweepers lives."""

import os

import optuna

from engine.sweep.storage import Sweepers, open_storage


def test_a_line_that_a_power_failure_cut_is_no_end_of_the_study(tmp_path):
    study = optuna.create_study(storage=open_storage(None, tmp_path), study_name="a")
    study.ask()
    whole = (tmp_path / "study.log").read_bytes()
    (tmp_path / "study.log").write_bytes(whole + b'{"op_code":4,"worker')
    again = optuna.load_study(storage=open_storage(None, tmp_path), study_name="a")
    again.ask()
    assert len(again.trials) == 2
    assert (tmp_path / "study.log").read_bytes().startswith(whole)


def test_a_sweeper_is_alive_while_it_holds_its_lock(tmp_path):
    one, other = Sweepers(tmp_path), Sweepers(tmp_path)
    with one.joined():
        assert other.is_alive(one.me) and one.is_alive(one.me)
    assert not other.is_alive(one.me)
    assert other.is_alive("another-machine-1-abc")  # with a folder of its own


def test_a_sweeper_of_another_machine_is_dead_when_it_was_silent_for_long(tmp_path):
    me = Sweepers(tmp_path)
    with me.joined():
        there = me.folder / "another-machine-1-abc"
        there.touch()  # on file systems whose locks other machines do not see
        assert me.is_alive(there.name)
        old = there.stat().st_mtime - 1000
        os.utime(there, (old, old))
        assert not me.is_alive(there.name)
