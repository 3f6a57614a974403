"""One comparison of what signals are made of, in words that follow "takes"."""

from dataclasses import replace

import pytest

from engine.corpora.corpus import Corpus
from engine.records.contract import SignalContract
from engine.records.record import LEADS

SIGNAL = SignalContract(("I", "II", "V1"), 100.0, 250)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, None),
        ({"leads": ("II", "I", "V1")}, "the leads I, II, V1, in this order, not II, I, V1"),
        ({"leads": LEADS}, "3 leads of 250 samples, not 12 of 250"),
        ({"n_samples": 251}, "3 leads of 250 samples, not 3 of 251"),
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
