"""A training is written down now and then, and that takes hardly any of its time."""

from engine.training.keeping import Keeping


def test_it_is_kept_after_so_many_seconds_and_never_for_more_than_a_hundredth_of_the_time():
    now, saved = [0.0], []

    def save(_network: object, _training: object) -> None:
        saved.append(now[0])
        now[0] += 1.0

    keeping = Keeping(30.0, save, lambda: now[0])
    for second in (10, 29, 31, 60, 100, 131, 133, 200):
        now[0] = max(now[0], second)
        keeping.keep(lambda: (None, None))
    assert saved == [31, 133]


def test_nothing_is_made_ready_that_is_not_kept():
    def unwanted() -> tuple[None, None]:
        raise AssertionError("a copy of the network, for nothing")

    Keeping(30.0, lambda _network, _training: None, lambda: 0.0).keep(unwanted)
