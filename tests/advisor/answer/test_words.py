"""How numbers are put into words."""

from dataclasses import replace
from pathlib import Path

import pytest

from advisor.answer.costs import Cost
from advisor.answer.question import Question
from advisor.answer.recommend import Recommendation, recommend
from advisor.answer.words import compares_more, device_in_words, duration, money, times_on, worth
from advisor.text.table import to_table
from studies.files.curves import read_curves
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


GPU = "GPU NVIDIA H200, 140 GiB, CUDA 13.0, shared by 13 processes"
CPU = "CPU Intel(R) Xeon(R) Processor, 1 thread of 2"


def cost(device: str | None, seconds: float | None = 5.0, own: float | None = None) -> Cost:
    on = "cpu" if device == CPU else "gpu"
    return Cost(
        device, 300, seconds if on == "cpu" else None, seconds if on == "gpu" else None, your_seconds=own,
        **{f"{on}_device": device},
    )  # fmt: skip


@pytest.fixture(scope="module", params=["curves_path", "four_arms_path"])
def answer(request: pytest.FixtureRequest) -> Recommendation:
    """An answer of two arms, and one of four."""
    path: Path = request.getfixturevalue(request.param)
    return recommend(Question(400, arch="cnn", device_speed=200.0), read_curves(path))


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ({"scratch": cost(GPU), "fine_tune": cost(GPU), "pretraining": cost(GPU)}, "times on GPU NVIDIA H200"),
        ({"scratch": cost(CPU), "fine_tune": cost(CPU)}, "times on CPU Intel Xeon Processor"),
        (
            {"scratch": cost(GPU), "fine_tune": cost("GPU NVIDIA A100, 80 GiB")},
            "times on GPU NVIDIA H200 and on GPU NVIDIA A100",
        ),
        ({"scratch": cost(GPU), "fine_tune": cost(CPU, None)}, "times on GPU NVIDIA H200"),
        ({"scratch": cost(GPU, own=9), "fine_tune": cost(GPU, own=8)}, "times at your 200 records a second"),
        (
            {"scratch": cost(GPU, own=9), "linear_probe": cost(GPU), "random_convolutions": cost(GPU)},
            "times at your 200 records a second, of linear probe and random convolutions on GPU NVIDIA H200",
        ),
        ({"scratch": cost(None, None), "fine_tune": cost(None, None)}, ""),
    ],
)
def test_times_name_their_device_or_the_speed_that_was_given(costs: dict[str, Cost], says: str, answer: Recommendation):
    answer = replace(answer, cost=costs)
    assert times_on(answer) == says
    said = " ".join(to_table(answer).split())
    of_what = "training " if compares_more(answer) else ""  # else the row is of the arms' own times
    assert (f"; {of_what}{says}" in said) if says else "times " not in said


def test_a_network_that_was_timed_on_another_device_says_so(answer: Recommendation):
    compared = recommend(Question(400), answer.curves)
    row = compared.networks[0]
    assert (
        row.device is not None
        and times_on(compared) == f"times on {device_in_words(row.device)}" == "times on CPU test"
    )
    rows = (replace(row, device=GPU), replace(row, arch="gru-w32", device=CPU), replace(row, seconds=None, device=None))
    compared = replace(compared, cost={"scratch": cost(GPU)}, networks=rows)
    assert times_on(compared) == "times on GPU NVIDIA H200, of gru-w32 on CPU Intel Xeon Processor"
