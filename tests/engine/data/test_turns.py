"""What is made ahead by threads is what would be made in turn."""

import pickle
from threading import Barrier, Event

from engine.data.turns import Keys, LookAhead, Turns


def test_each_batch_names_the_one_that_its_worker_makes_next():
    batches = [[1, 2], [3], [4], [5]]
    found = list(LookAhead(batches, 2))
    assert [list(b) for b in found] == batches and len(LookAhead(batches, 2)) == 4
    assert [list(b.ahead) for b in found] == [[4], [5], [], []]
    assert pickle.loads(pickle.dumps(found[0])).ahead == [4]  # as workers get it


def test_several_are_made_at_a_time_and_those_ahead_before_they_are_asked_for():
    barrier, begun = Barrier(3), Event()

    def make(key):
        if key < 3:
            barrier.wait(10)  # passes only where three wait at once
        else:
            begun.set()
        return -key

    turns = Turns(make, 3)
    keys = Keys([0, 1, 2])
    keys.ahead = [3]
    assert turns(keys) == [0, -1, -2]
    assert begun.wait(10)
    assert turns([3, 5]) == [-3, -5] and turns._begun == {}
    assert pickle.loads(pickle.dumps(Turns(abs, 2)))([-1]) == [1]


def test_without_threads_nothing_is_made_ahead():
    made = []
    keys = Keys([1, 2])
    keys.ahead = [3]
    assert Turns(lambda key: made.append(key) or key, 0)(keys) == [1, 2] and made == [1, 2]
