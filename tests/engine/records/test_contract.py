"""One comparison of what signals are made of, in words that follow "takes"."""

from dataclasses import replace

import pytest

from engine.corpora.corpus import Corpus
from engine.records.contract import Reading, ReadingError, Sampling, SamplingError, SignalContract
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


EIGHT = ("aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FOREIGN = SignalContract(EIGHT, 400.0, 800, crop=800, scaling="lead")
RECORDS = SignalContract(LEADS, 100.0, 1000)


def test_a_network_reads_records_by_its_own_leads_and_rate():
    assert FOREIGN.of_records(RECORDS) == SignalContract(EIGHT, 400.0, 4000, 800, "lead")
    assert RECORDS.of_records(RECORDS) == RECORDS
    assert FOREIGN.in_words() == (
        "8 leads (aVL, aVF, V1, V2, V3, V4, V5, V6) of 800 samples at 400 Hz, read in crops of 2 s, each lead scaled "
        "by itself"
    )


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({"fs": 400.0, "n_samples": 4000}, None),
        ({"fs": 400.0, "n_samples": 800}, None),
        ({"fs": 400.0, "n_samples": 799}, "records of 2 s, not of 1.9975 s"),
        ({}, "signals at 400 Hz, not at 100 Hz"),
        (
            {"leads": LEADS[:9]},
            "8 leads (aVL, aVF, V1, V2, V3, V4, V5, V6), of which these records lack V4, V5, V6",
        ),
    ],
)
def test_a_network_says_which_records_it_cannot_take(records: dict, said: str | None):
    assert FOREIGN.unlike(replace(RECORDS, **records)) == said


def test_a_network_that_reads_whole_records_takes_those_of_its_length_alone():
    whole = SignalContract(("I",), 100.0, 1000)
    assert whole.unlike(RECORDS) is None
    assert whole.unlike(replace(RECORDS, n_samples=1200)) == "records of 10 s, not of 12 s"


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (
            Reading(("aVL", "V1"), 400.0, 800, "lead"),
            "aVL+V1 at 400 Hz, crops of 800, scaled by lead",
        ),
        (Reading(("I",), None, None, "set"), "I, scaled by set"),
        (Reading(("I", "II"), 500.0, None, "record"), "I+II at 500 Hz, scaled by record"),
        (Reading(("I",), None, 200, "set"), "I, crops of 200, scaled by set"),
    ],
)
def test_how_records_are_read_comes_back_from_its_text(reading: Reading, text: str):
    assert str(reading) == text
    assert Reading.parse(text) == reading


@pytest.mark.parametrize(
    "text", ["", "I", "I, scaled by nothing", "I at 400, scaled by set", "I, crops of x, scaled by set"]
)
def test_other_text_says_nothing_of_how_records_are_read(text: str):
    with pytest.raises(ReadingError):
        Reading.parse(text)


def test_records_that_are_read_as_they_are_need_no_words():
    assert Reading.of(RECORDS, RECORDS) is None
    found = Reading.of(FOREIGN, RECORDS)
    assert found == Reading(EIGHT, 400.0, 800, "lead")
    assert found.of_records(RECORDS) == FOREIGN.of_records(RECORDS)
    at_its_rate = replace(RECORDS, fs=400.0, n_samples=4000)
    assert Reading.of(FOREIGN, at_its_rate) == Reading(EIGHT, None, 800, "lead")
