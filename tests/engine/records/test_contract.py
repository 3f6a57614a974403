"""One comparison of what signals are made of, in words that follow "takes"."""

from dataclasses import replace

import pytest

from engine.corpora.corpus import Corpus
from engine.records.contract import Sampling, SamplingError, SignalContract
from engine.records.record import LEADS

SIGNAL = SignalContract(("I", "II", "V1"), 100.0, 250)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, None),
        ({"leads": ("II", "I", "V1")}, "the leads I, II, V1, in this order, not II, I, V1"),
        ({"leads": LEADS}, "3 leads of 250 samples, not 12 of 250"),
        ({"n_samples": 251}, "records of 2.5 s, not of 2.51 s"),
        ({"fs": 99.5}, "signals at 100 Hz, not at 99.5 Hz"),
        ({"fs": 500.0, "n_samples": 1250}, "signals at 100 Hz, not at 500 Hz"),
    ],
)
def test_a_mismatch_says_what_differs(other: dict, said: str | None):
    assert SIGNAL.mismatch(replace(SIGNAL, **other)) == said


@pytest.mark.parametrize("other", [{"leads": ("I",)}, {"leads": ("I", "II", "V2")}, {"fs": 50.0}, {"n_samples": 1}])
def test_there_is_a_mismatch_wherever_two_differ_whichever_is_asked(other: dict):
    one = replace(SIGNAL, **other)
    assert one != SIGNAL
    assert one.mismatch(SIGNAL)
    assert SIGNAL.mismatch(one)


def test_a_single_lead_is_one_lead():
    single = SignalContract(("I",), 100.0, 1000)
    assert single.mismatch(replace(single, leads=LEADS)) == "1 lead of 1000 samples, not 12 of 1000"
    assert single.in_words() == "1 lead (I) of 1,000 samples at 100 Hz"


def test_a_corpus_says_what_its_signals_are(corpus: Corpus):
    assert corpus.contract == SignalContract(LEADS, 100.0, 1000)
    assert corpus.contract.seconds == 10.0
    assert corpus.signals.shape[1:] == (12, 1000)


@pytest.mark.parametrize(
    ("seconds", "fs", "n_samples", "suffix"),
    [
        (None, None, 1000, ""),
        (7, None, 700, "-7s"),
        (None, 250, 2500, "-at-250hz"),
        (7.3, 400, 2920, "-7.3s-at-400hz"),
        (1, 50, 50, "-1s-at-50hz"),
        (120, 1000, 120_000, "-120s-at-1000hz"),
        (10, 100, 1000, ""),
    ],
)
def test_what_is_asked_for_is_that_many_samples_and_has_its_own_name(
    seconds: float | None, fs: float | None, n_samples: int, suffix: str
):
    sampling = Sampling.asked(seconds, fs)
    assert (sampling.n_samples, sampling.suffix) == (n_samples, suffix)


@pytest.mark.parametrize(
    ("seconds", "fs", "said"),
    [
        (0.99, None, "records of 0.99 s are asked for: give 1 to 120 s"),
        (120.5, None, "records of 120.5 s are asked for: give 1 to 120 s"),
        (-7, None, "records of -7 s are asked for"),
        (float("nan"), None, "records of nan s are asked for"),
        (float("inf"), None, "records of inf s are asked for"),
        (None, 49, "49 Hz are asked for: give a whole number, 50 to 1000 Hz"),
        (None, 1001, "1001 Hz are asked for: give a whole number, 50 to 1000 Hz"),
        (None, 62.5, "62.5 Hz are asked for: give a whole number"),
        (None, float("nan"), "nan Hz are asked for"),
        (None, float("inf"), "inf Hz are asked for"),
        (7.005, 100, "7.005 s at 100 Hz are 700.5 samples: give seconds that make a whole number"),
    ],
)
def test_lengths_and_rates_that_cannot_be_are_refused(seconds: float | None, fs: float | None, said: str):
    with pytest.raises(SamplingError) as refused:
        Sampling.asked(seconds, fs)
    assert str(refused.value).startswith(said)
    assert refused.value.exit_code == 2
