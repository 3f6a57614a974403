"""How numbers are put into words."""

import pytest

from advisor.words import worth
from studies.curve_draws import Interval


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        (Interval(250, 100, 900), "250 labelled records (90 %: 100 to 900)"),
        (Interval(250, -40, 900), "250 labelled records (90 %: -40 to 900)"),
        (Interval(2944, 18, None), "2,944 labelled records (90 %: 18 to out of reach)"),
        (Interval(-3281, -4924, None), "unclear (90 %: -4,924 labelled records to out of reach)"),
        (Interval(None, None, None), "out of reach labelled records (90 %: out of reach to out of reach)"),
    ],
)
def test_what_pre_training_is_worth_is_left_open_where_it_may_be_a_loss_or_without_end(interval: Interval, says: str):
    assert worth(interval) == says
