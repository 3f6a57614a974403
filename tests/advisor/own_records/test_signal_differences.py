"""Leads, rate and length that most of the evidence does not share are said, with how many of its tasks do."""

from dataclasses import replace

import pytest

from advisor.own_records.signal_differences import signal_differences
from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from engine.records.record import LEADS
from studies.files.transferability import TaskFacts

TWELVE = TaskFacts("ptb-xl", 9000, LEADS, 100.0, {"NORM": 0.4})
ONE = replace(TWELVE, leads=("I",))
REST = "the expected scores and gains rest on all of them."
NOTHING = "nothing was measured with such records."


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 20)


@pytest.fixture
def corpus(prepared: Corpus) -> Corpus:
    return Corpus(prepared.root)


def said(corpus: Corpus, *facts: TaskFacts) -> tuple[str, ...]:
    known = {f"s/t{k}": one for k, one in enumerate(facts)}
    return signal_differences(corpus, known, tuple(known))


def test_leads_that_a_few_tasks_have_are_said_with_how_many_do(corpus: Corpus):
    corpus.leads = ("I",)
    assert said(corpus, *9 * [TWELVE], ONE, ONE) == (
        f"These records have one lead (I): 2 of the evidence's 11 tasks do, 9 have 12 leads; {REST}",
    )


def test_leads_that_no_task_has_were_not_measured(corpus: Corpus):
    corpus.leads = ("II",)
    assert said(corpus, *9 * [TWELVE], ONE) == (
        f"These records have one lead (II): none of the evidence's 10 tasks does, 9 have 12 leads, 1 has one lead (I); "
        f"{NOTHING}",
    )
    assert said(corpus, TWELVE) == (f"These records have one lead (II): the evidence's 12 leads; {NOTHING}",)


def test_what_more_than_half_of_the_tasks_share_is_not_a_difference(corpus: Corpus):
    assert said(corpus, TWELVE, TWELVE, ONE) == ()
    assert len(said(corpus, TWELVE, ONE)) == 1


def test_rate_and_length_are_compared_task_by_task(corpus: Corpus):
    other = replace(TWELVE, fs=250.0, seconds=7.0)
    assert said(corpus, other, other, TWELVE) == (
        f"These records are at 100 Hz: 1 of the evidence's 3 tasks is, 2 are at 250 Hz; {REST}",
        f"These records are of 10 s: 1 of the evidence's 3 tasks is, 2 are of 7 s; {REST}",
    )


def test_tasks_without_facts_do_not_count(corpus: Corpus):
    assert signal_differences(corpus, {"s/t": ONE}, ("other/t",)) == ()


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([[500.0, 20]], "500 Hz"),
        ([[250.0, 5], [500.0, 15]], "250 Hz (5), 500 Hz (15)"),
        ([[k, 4] for k in (125.0, 200.0, 250.0, 400.0, 500.0)], "125 Hz (4), 200 Hz (4), 250 Hz (4) and 2 other rates"),
        ([[100.0, 20]], None),
    ],
)
def test_the_rate_before_resampling_is_said_where_it_was_another(corpus: Corpus, rates: list, words: str | None):
    corpus.manifest["recorded"] = {"fs": rates, "seconds": [10.0, 10.0]}
    sentence = f"These records were recorded at {words}, and are used at 100 Hz: nothing above 50 Hz is left in them."
    assert said(corpus, TWELVE) == (() if words is None else (sentence,))
    del corpus.manifest["recorded"]  # as an older version wrote it
    assert said(corpus, TWELVE) == ()
