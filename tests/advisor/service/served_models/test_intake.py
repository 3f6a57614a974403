"""What is counted of what models are given, and what is not kept."""

from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from advisor.service.served_models import intake
from advisor.service.served_models.intake import NOTES, OTHER, PROBLEMS, Seen, kind_of
from advisor.service.store import ServiceStore
from engine.deploy.inference import Listed
from engine.records.record import LEADS, Record, RecordError
from engine.records.signal import conform
from tests.advisor.service.served_models.conftest import draw


@pytest.fixture
def store(tmp_path: Path):
    opened = ServiceStore(tmp_path / "store").open()
    yield opened
    opened.close()


def test_counts_of_requests_are_added_up_by_model_and_day(store: ServiceStore):
    first, second = date(2026, 11, 27), date(2026, 11, 28)
    intake.add(store, "a", {("records", ""): 2, ("positive", "MI"): 1}, first)
    intake.add(store, "a", {("records", ""): 3, ("positive", "MI"): 0}, second)
    intake.add(store, "a", {("records", ""): 5, ("fs", "500 Hz"): 5}, second)
    intake.add(store, "b", {("records", ""): 100}, second)
    everything, later = intake.read(store, "a"), intake.read(store, "a", second)
    assert (everything.records, everything.days, everything.first_day, everything.last_day) == (10, 2, first, second)
    assert (later.records, later.days, later.first_day, later.of("fs")) == (8, 1, second, {"500 Hz": 5})
    assert (everything.of("positive"), later.of("positive")) == ({"MI": 1}, {})
    nothing = intake.read(store, "c")
    assert (nothing.records, nothing.days, nothing.first_day, dict(nothing.counts)) == (0, 0, None, {})


def test_what_was_counted_for_a_model_is_forgotten_whatever_file_it_had_and_for_no_other(store: ServiceStore):
    for name in ("m1/aaaa", "m1/bbbb", "m11/aaaa", "m_/aaaa"):
        intake.add(store, name, {("records", ""): 1})
    with store.transaction() as db:
        intake.forget(db, "m1")
        intake.forget(db, "m%")
    assert [row["model"] for row in store.rows("SELECT model FROM intake")] == ["m11/aaaa", "m_/aaaa"]


def test_counts_survive_reopening(store: ServiceStore):
    intake.add(store, "a", {("records", ""): 2})
    store.close()
    again = ServiceStore(store.root).open()
    assert intake.read(again, "a").records == 2
    again.close()


def test_a_request_is_counted_whole_or_not_at_all(store: ServiceStore):
    with pytest.raises(Exception, match="NOT NULL"):
        intake.add(store, "a", {("records", ""): 2, ("positive", None): 1})  # type: ignore[dict-item]
    assert intake.read(store, "a").records == 0


def test_a_lead_of_a_name_of_its_own_is_counted_without_the_name():
    signals = np.zeros((3, 10), np.float32)
    seen = Seen()
    (watched,) = seen.watch([Listed("x", lambda: Record(signals, 499.7, ("I", "Jane Doe", "V1")))])
    watched.read()
    assert seen.leads == Counter({"I, V1, 1 more": 1})
    assert seen.fs == Counter({"500 Hz": 1})


def test_a_record_that_cannot_be_read_has_no_rate():
    def read() -> Record:
        raise RecordError("cut")

    seen = Seen()
    (watched,) = seen.watch([Listed("x", read)])
    with pytest.raises(RecordError):
        watched.read()
    assert not seen.fs


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: (x[:, :500], 100.0, LEADS), "too short"),
        (lambda x: (x[:7], 100.0, LEADS[:7]), "a lead is missing"),
        (lambda x: (np.where(np.arange(1000) == 5, np.nan, x), 100.0, LEADS), "samples are missing (NaN)"),
        (lambda x: (0 * x, 100.0, LEADS), "flat in every lead"),
        (lambda x: (x, 40.0, LEADS), "sampled too slowly, or at no known rate"),
    ],
)
def test_problems_of_the_preparation_have_a_kind(change, kind: str):
    signals, fs, leads = change(draw(1)[0])
    with pytest.raises(RecordError) as error:
        conform(Record(np.asarray(signals, np.float32), fs, leads))
    assert kind_of(str(error.value), PROBLEMS) == kind


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: (np.delete(x, 3, axis=0), (*LEADS[:3], *LEADS[4:])), "leads derived from others"),
        (lambda x: (np.concatenate([x, x], axis=1), LEADS), "longer than what is used"),
        (lambda x: (x * (np.arange(12) != 8)[:, None], LEADS), "a flat lead"),
        (lambda x: (1000 * x, LEADS), "implausible voltage"),
    ],
)
def test_notes_of_the_preparation_have_a_kind(change, kind: str):
    signals, leads = change(draw(1)[0])
    notes = conform(Record(np.asarray(signals, np.float32), 100.0, leads)).notes
    assert kind in {kind_of(note, NOTES) for note in notes}


def test_a_sentence_that_is_not_known_is_of_no_kind_and_not_kept():
    assert kind_of("Jane Doe, born 1950", PROBLEMS) == kind_of("Jane Doe, born 1950", NOTES) == OTHER
