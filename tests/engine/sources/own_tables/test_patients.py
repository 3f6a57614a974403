"""One patient under several spellings is one patient; two are two."""

import pytest

from engine.sources import SourceError
from engine.sources.own_tables.patients import join_spellings, same_patient


def joined(tmp_path, cells, sexes=None):
    lines = range(2, 2 + len(cells))
    return join_spellings(tmp_path / "labels.csv", "patient", cells, lines, sexes or [None] * len(cells))


@pytest.mark.parametrize(
    "one, other",
    [
        ("P001", "p001"),
        ("1000", "1000.0"),
        ("1000", "1000,00"),
        ("7", "000007"),
        ("P7", "P007"),
        ("A-01-002", "a-1-2"),
        ("0", "000000"),
        ("1000", "1000\u200b"),
        ("1000", "\u00a01000 "),
        ("1000", "\uff11\uff10\uff10\uff10"),
        ("P 17", "P17"),
        ("A-1", "A\u20131"),
        ("M\u00fcller", "Mu\u0308ller"),
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_spellings_of_one_patient_are_joined_under_the_first_and_counted(tmp_path, one, other):
    patients = joined(tmp_path, [one, other, one, "someone"])
    assert patients.rows == (one, one, one, "someone")
    assert (len(patients), patients.n_joined) == (2, 1)


@pytest.mark.parametrize(
    "one, other",
    [("1", "10"), ("P01", "P10"), ("1-11", "11-1"), ("1.5", "15"), ("1.0", "10"), ("a_1", "a1"), ("100", "1"),
     ("0", "1")],
)  # fmt: skip
def test_different_patients_stay_different(tmp_path, one, other):
    assert same_patient(one) != same_patient(other)
    assert joined(tmp_path, [one, other]).rows == (one, other)


def test_missing_patients_are_none(tmp_path):
    assert joined(tmp_path, ["NA", "p", "", "#N/A", "."]).rows == ("", "p", "", "", "")


def test_two_sexes_of_two_spellings_are_refused_without_naming_the_patient(tmp_path):
    with pytest.raises(SourceError, match=r"lines 2 and 3: patient has two spellings .* sexes differ") as caught:
        joined(tmp_path, ["Example7", "example7"], ["female", "male"])
    assert "xample7" not in str(caught.value)
    assert len(joined(tmp_path, ["7", "07", "07"], ["female", "female", "male"])) == 1  # an error of another kind


@pytest.mark.parametrize("cell", ["1E+05", "1.23457E+12", "1,2E+10", "1e+05"])
def test_numbers_in_scientific_notation_are_refused_since_digits_are_lost(tmp_path, cell):
    with pytest.raises(SourceError, match="line 3: patient is in scientific notation") as caught:
        joined(tmp_path, ["1", cell])
    assert cell not in str(caught.value)
