"""How numbers are put into words."""

import pytest

from advisor.answer.words import duration, money, worth
from studies.files.draws import Interval


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        (Interval(250, 100, 900), "250 labelled records (90 %: 100 to 900)"),
        (Interval(250, -40, 900), "250 labelled records (90 %: -40 to 900)"),
        (Interval(2944, 18, None), "2,944 labelled records (90 %: 18 to out of reach)"),
        (Interval(-3281, -4924, None), "unclear (90 %: -4,924 labelled records to out of reach)"),
        (Interval(None, None, None), "out of reach (90 %: out of reach to out of reach)"),
    ],
)
def test_what_pre_training_is_worth_is_left_open_where_it_may_be_a_loss_or_without_end(interval: Interval, says: str):
    assert worth(interval) == says


@pytest.mark.parametrize(
    ("value", "time", "price"),
    [
        (None, "unknown", "unknown"),
        (float("nan"), "unknown", "unknown"),
        (59.4, "59 s", "59.40"),
        (7200, "120 min", "7,200"),
        (99_999_999_999, "27,777,777.8 h", "99,999,999,999"),
        (1e300, "over 100,000,000,000 h", "over 100,000,000,000"),
        (float("inf"), "over 100,000,000,000 h", "over 100,000,000,000"),
    ],
)
def test_times_and_sums_without_end_are_not_written_out(value: float | None, time: str, price: str):
    assert (duration(value), money(value)) == (time, price)


def test_a_loss_without_end_is_one():
    assert money(-1e300) == "under -100,000,000,000"
