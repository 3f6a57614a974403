"""A pilot tells its answer so far with each complete pair, and that takes a tenth of its time at most."""

from itertools import pairwise

import pytest

from advisor.own_records.pilots.so_far import SoFar
from advisor.own_records.pilots.study import PilotError
from studies.running.progress import Progress


class Pilot:
    """Pairs that are complete, answers to them that take a second each, and what was told when."""

    def __init__(self) -> None:
        self.pairs, self.now, self.told, self.reported = 0, 0.0, [], []
        self.report = SoFar(lambda: self.pairs, self.answer, self.tell, lambda: self.now).after(self.reported.append)

    def answer(self) -> str:
        self.now += 1.0
        if self.pairs < 2:
            raise PilotError("the pilot's one pair makes no curve yet")
        return f"{self.pairs} pairs"

    def tell(self, answer: str | None) -> None:
        self.told.append((self.now, answer))


@pytest.fixture
def pilot() -> Pilot:
    return Pilot()


def test_it_is_told_with_each_pair_and_nothing_before_there_are_enough(pilot: Pilot):
    for done, pairs in enumerate((0, 0, 1, 1, 2, 2, 3)):
        pilot.pairs = pairs
        pilot.report(Progress(8, done=done))
        pilot.now += 20.0
    assert [answer for _, answer in pilot.told] == [None, "2 pairs", "3 pairs"]
    assert [progress.done for progress in pilot.reported] == [0, 1, 2, 3, 4, 5, 6]


def test_it_is_not_looked_for_while_that_would_take_more_than_a_tenth_of_the_time(pilot: Pilot):
    for done in range(2, 40):
        pilot.pairs = done
        pilot.report(Progress(80, done=done))
        pilot.now += 1.0
    times = [when for when, _ in pilot.told]
    assert times[0] == 1.0
    assert all(later - before >= 11.0 for before, later in pairwise(times))
