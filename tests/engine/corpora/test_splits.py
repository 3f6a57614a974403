"""Subsets and validation shares: exact sizes, whole patients apart, the same draw for the same seed."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.corpora.splits import draw_records, split_validation
from engine.seeds import stable_seed

seeds = st.integers(0, 2**63 - 1)
no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is not a failure


@st.composite
def patient_columns(draw: st.DrawFn, min_patients: int = 1) -> np.ndarray:
    """One patient number a record: 1 to 4 records a patient, numbers with gaps, records of patients interleaved."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=min_patients, max_size=30))
    numbers = draw(st.lists(st.integers(-(10**9), 10**9), min_size=len(sizes), max_size=len(sizes), unique=True))
    return np.array(draw(st.permutations(np.repeat(numbers, sizes).tolist())), np.int64)


@st.composite
def patients_and_sizes(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    patients = draw(patient_columns())
    return patients, draw(st.integers(1, len(patients)))


def partly_drawn(patients: np.ndarray, drawn: np.ndarray) -> set[int]:
    return {p for p in set(patients[drawn].tolist()) if (patients[drawn] == p).sum() < (patients == p).sum()}


@given(patients_and_sizes(), seeds)
@no_clock
def test_a_draw_has_exactly_n_records_without_repeats(column_and_size, seed):
    patients, n_records = column_and_size
    drawn = draw_records(patients, n_records, seed)
    assert len(drawn) == n_records
    assert len(set(drawn.tolist())) == n_records
    assert drawn.min() >= 0
    assert drawn.max() < len(patients)


@given(patients_and_sizes(), seeds)
@no_clock
def test_only_the_last_patient_drawn_may_be_partial(column_and_size, seed):
    patients, n_records = column_and_size
    drawn = draw_records(patients, n_records, seed)
    in_order = patients[drawn]
    assert partly_drawn(patients, drawn) <= {in_order[-1]}
    assert (np.diff(in_order) != 0).sum() + 1 == len(set(in_order.tolist())), "patient after patient"


@given(patients_and_sizes(), seeds)
@no_clock
def test_a_draw_depends_on_its_seed_alone_and_a_smaller_one_is_its_beginning(column_and_size, seed):
    patients, n_records = column_and_size
    drawn = draw_records(patients, n_records, seed)
    np.testing.assert_array_equal(drawn, draw_records(patients.copy(), n_records, seed))
    np.testing.assert_array_equal(drawn, draw_records(patients, len(patients), seed)[:n_records])
    np.testing.assert_array_equal(drawn, draw_records(2 * patients + 1, n_records, seed), "patient numbers are names")


def test_different_seeds_draw_different_records():
    patients = np.repeat(np.arange(100), 2)
    draws = {tuple(sorted(draw_records(patients, 20, seed).tolist())) for seed in range(50)}
    assert len(draws) == 50


def test_every_patient_is_as_likely_to_be_drawn_first_however_many_records_there_are():
    patients = np.repeat(np.arange(4), [1, 2, 8, 40])
    first = [patients[draw_records(patients, 1, seed)[0]] for seed in range(2000)]
    np.testing.assert_allclose(np.bincount(first) / 2000, 0.25, atol=0.04)  # 4 standard errors


@pytest.mark.parametrize("n_records", [0, -1, 6])
def test_a_draw_of_none_or_of_more_than_there_are_raises(n_records):
    with pytest.raises(ValueError, match=f"cannot draw {n_records} records out of 5"):
        draw_records(np.arange(5), n_records, seed=0)


# From 12 patients of at most 4 records, a share of at most 0.6 always leaves some to train on.
shares = st.floats(0.01, 0.6)


@given(patient_columns(min_patients=12), shares, seeds)
@no_clock
def test_validation_and_training_hold_every_record_once_and_share_no_patient(patients, fraction, seed):
    training, validation = split_validation(patients, fraction, seed)
    assert len(training)
    assert len(validation)
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(len(patients)))
    assert not set(patients[training].tolist()) & set(patients[validation].tolist())


@given(patient_columns(min_patients=12), shares, seeds)
@no_clock
def test_the_validation_share_is_the_fraction_rounded_up_to_whole_patients(patients, fraction, seed):
    _, validation = split_validation(patients, fraction, seed)
    wanted = max(1, round(fraction * len(patients)))
    _, sizes = np.unique(patients[validation], return_counts=True)
    assert wanted <= len(validation) < wanted + sizes.max()


@given(patient_columns(min_patients=12), shares, seeds)
@no_clock
def test_a_split_depends_on_its_seed_alone(patients, fraction, seed):
    once, again = split_validation(patients, fraction, seed), split_validation(patients.copy(), fraction, seed)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])


def test_different_seeds_split_differently():
    patients = np.repeat(np.arange(100), 2)
    assert len({tuple(split_validation(patients, 0.2, seed)[1].tolist()) for seed in range(50)}) == 50


def test_a_split_of_one_patient_raises_and_says_how_many_there_are():
    with pytest.raises(ValueError, match="7 records of 1 patients"):
        split_validation(np.zeros(7, np.int64), 0.2, seed=0)


def test_a_split_that_asks_for_everything_raises():
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        split_validation(np.arange(10), 1.0, seed=0)


def test_a_split_of_no_records_raises():
    with pytest.raises(ValueError):
        split_validation(np.empty(0, np.int64), 0.2, seed=0)


def test_a_fraction_above_one_raises_as_one_does():
    with pytest.raises(ValueError):
        split_validation(np.arange(10), 1.5, seed=0)


def test_a_stable_seed_is_the_same_on_every_machine_and_in_every_version():
    text = b"ptb-xl/superclass\x1f500\x1f3"
    expected = int.from_bytes(hashlib.sha256(text).digest()[:8], "little") // 2
    assert stable_seed("ptb-xl/superclass", 500, 3) == expected == 6022281216103220258


def test_a_stable_seed_separates_its_parts():
    assert len({stable_seed(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ()]}) == 5


@given(st.lists(st.one_of(st.integers(), st.text()), max_size=4), st.integers())
@no_clock
def test_a_stable_seed_has_63_bits_and_changes_with_a_further_part(parts, further):
    assert 0 <= stable_seed(*parts) < 2**63
    assert stable_seed(*parts) != stable_seed(*parts, further)
