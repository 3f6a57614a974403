"""Ways and numbers of runs are chosen by what was measured, on a clock that the test sets."""

from collections.abc import Callable

import pytest
import torch

from engine.compute.speed_probe import PROBE_STEPS, fastest_way, find_runs_at_once


class FakeClock:
    """A clock that only moves when a step says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps: list[str] = []

    def way(self, name: str, seconds: float, first: float = 0.0) -> Callable[[], Callable[[], None]]:
        """A way whose steps take so long, and whose first one takes longer by ``first``."""

        def step() -> None:
            self.seconds += seconds + (first if name not in self.steps else 0.0)
            self.steps.append(name)

        return lambda: step

    def now(self) -> float:
        return self.seconds


def failing(error: Exception) -> Callable[[], Callable[[], None]]:
    def prepare() -> Callable[[], None]:
        raise error

    return prepare


def test_the_faster_way_is_chosen_by_ten_steps_after_a_warm_up():
    clock = FakeClock()
    choice = fastest_way({"eager": clock.way("eager", 3.0), "graph": clock.way("graph", 1.0, first=500.0)}, clock.now)
    assert (choice.way, choice.step_seconds) == ("graph", pytest.approx(1.0))
    assert choice.seconds == pytest.approx({"eager": 3.0, "graph": 1.0})
    assert clock.steps.count("graph") == PROBE_STEPS + 3


def test_a_way_that_is_slower_is_not_taken():
    clock = FakeClock()
    assert fastest_way({"eager": clock.way("eager", 1.0), "graph": clock.way("graph", 1.5)}, clock.now).way == "eager"


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted\nwhen capturing"), torch.OutOfMemoryError("x")]
)
def test_a_way_that_fails_leaves_the_first_and_its_reason(error):
    clock = FakeClock()
    choice = fastest_way({"eager": clock.way("eager", 1.0), "graph": failing(error)}, clock.now)
    assert choice.way == "eager"
    assert choice.failures == {"graph": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


def test_a_way_that_fails_in_its_steps_leaves_the_first():
    def step() -> None:
        raise RuntimeError("illegal")

    clock = FakeClock()
    choice = fastest_way({"eager": clock.way("eager", 1.0), "graph": lambda: step}, clock.now)
    assert (choice.way, list(choice.failures)) == ("eager", ["graph"])


@pytest.mark.parametrize("error", [RuntimeError("broken"), TypeError("a defect of ours")])
def test_the_first_way_must_work(error):
    with pytest.raises(type(error)):
        fastest_way({"eager": failing(error)}, FakeClock().now)


def test_a_defect_in_another_way_is_no_reason_to_go_on():
    clock = FakeClock()
    with pytest.raises(TypeError):
        fastest_way({"eager": clock.way("eager", 1.0), "graph": failing(TypeError("a defect of ours"))}, clock.now)


def saturating(at: int, tried: list[int]) -> Callable[[int], float]:
    """A device that is full with that many runs."""

    def measure(count: int) -> float:
        tried.append(count)
        return 100.0 * min(count, at)

    return measure


@pytest.mark.parametrize(("full_at", "count"), [(1, 1), (2, 2), (3, 4), (8, 8), (16, 16), (99, 16)])
def test_runs_are_doubled_while_that_pays(full_at, count):
    tried: list[int] = []
    found = find_runs_at_once(saturating(full_at, tried))
    assert found.count == count
    assert tried == [2**k for k in range(len(tried))]
    assert max(tried) == min(2 * count, 16)
    assert list(found.records_per_second) == tried


def test_a_gain_too_small_to_pay_ends_the_search_with_its_reason():
    found = find_runs_at_once(lambda count: {1: 100.0, 2: 105.0}[count])
    assert (found.count, found.reason) == (1, "2 bring 1.05 times the records/s")


def test_memory_that_is_full_ends_the_search_with_its_reason():
    def measure(count: int) -> float:
        if count > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 100.0 * count

    found = find_runs_at_once(measure)
    assert (found.count, found.reason) == (4, "8 do not fit into the device's memory")


def test_one_run_that_does_not_fit_is_said():
    def measure(count: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        find_runs_at_once(measure)
