"""What single cells say: missing in every system's words, yes and no, sexes, ages."""

import pytest

from engine.sources.own_tables.cells import flags, is_missing, sexes, shown
from engine.sources.tables import parse_age, parse_sex


@pytest.mark.parametrize(
    "cell",
    ["", "  ", "\u00a0", "\u200b", "NA", "<NA>", "NaN", "-nan", "NaT", "N/A", "n/a", "#N/A", "#N/A N/A", "#NULL!",
     "NULL", "None", "#VALUE!", "#REF!", "#DIV/0!", "#NAME?", "#NUM!", ".", ".A", ".Z", "._", ".a", ".z", "\\N",
     "1.#IND", "?", "-", "\u2013", "unknown"],
)  # fmt: skip
def test_words_of_other_systems_for_a_missing_value_are_missing(cell):
    assert is_missing(cell)


@pytest.mark.parametrize(
    "cell", ["-9", "99", "999", "0", ".5", "..", ".aa", "nano", "Nan Li", "N", "A", "#1", "O'Null"]
)
def test_values_are_not_missing(cell):
    assert not is_missing(cell)


@pytest.mark.parametrize(
    "cells",
    ["1 0 1", "1.0 0.0 1.0", "1,0 0,0 1,0", "1.000e+00 0.000e+00 1.000E+00", "TRUE FALSE TRUE", "true false true",
     "T F T", "Y N Y", "yes no yes", "Positive negative POSITIVE", "pos neg pos", "WAHR FALSCH WAHR", "VRAI FAUX VRAI",
     "1 0.0 TRUE"],
)  # fmt: skip
def test_yes_and_no_are_understood_as_programs_write_them(cells):
    assert flags(cells.split()) == [True, False, True]


@pytest.mark.parametrize("cells", ["2 2", "-9 99", "F M", "F F", "10 01", "normal abnormal", "- +", "N A"])
def test_anything_else_is_neither_yes_nor_no(cells):
    assert flags(cells.split()) == [None, None]


def test_letters_count_only_in_a_column_of_their_pair_and_missing_values():
    assert flags(["Y", "N", "NA"]) == [True, False, None]
    assert flags(["N", "N", "NA"]) == [False, False, None]
    assert flags(["Y", "N", "maybe"]) == [None, None, None]
    assert flags(["T", "F", "1"]) == [None, None, True]


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["F", "M", "f"], ["female", "male", "female"]),
        (["w", "m"], ["female", "male"]),
        (["V", "M"], ["female", "male"]),
        (["K", "M"], ["female", "male"]),
        (["H", "F"], ["male", "female"]),
        (["H", "M"], [None, None]),  # hombre and mujer, or homme and masculin
        (["Female", "male", "weiblich", "m\u00e4nnlich"], ["female", "male", "female", "male"]),
        (["M", "M", "NA"], ["male", "male", None]),
        (["0", "1"], [None, None]),
        (["1", "2"], [None, None]),
    ],
)
def test_a_column_of_sexes_is_understood_or_left(cells, expected):
    assert sexes(cells) == expected


@pytest.mark.parametrize(
    "text, years",
    [("45", 45), ("45.0", 45), ("45,5", 45.5), ("45 years", 45), ("45y", 45), ("45 yrs", 45), ("45-year old", 45),
     ("45 Jahre", 45), ("45 a\u00f1os", 45),
     ("045Y", 45), ("006M", 0.5), ("6 months", 0.5), ("000D", 0), ("120", 120), ("300", None), ("-1", None),
     ("NaN", None), ("NA", None), (">89", None), ("90+", None), ("40-49", None), ("1970-01-02", None), ("", None),
     ("0999Y", None), ("45M", None), ("45 m", None), ("45F", None)],
)  # fmt: skip
def test_ages_are_read_in_years_or_not_at_all(text, years):
    assert parse_age(text) == years


def test_weeks_and_days_are_parts_of_a_year():
    assert parse_age("052W") == pytest.approx(52 * 7 / 365.25)
    assert parse_age("003D") == pytest.approx(3 / 365.25)


def test_a_sex_in_words():
    assert [parse_sex(word) for word in ("Woman", "man", "F", "M", "x", "")] == [
        "female", "male", "female", "male", None, None
    ]  # fmt: skip


def test_a_long_cell_is_not_repeated_in_a_message():
    assert shown("n/a") == "'n/a'"
    assert shown("Mrs Example, born 1950") == "22 characters of something else"
