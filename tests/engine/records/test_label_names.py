"""One name for a finding, however a source writes it."""

import pytest

from engine.records.label_names import finding_of
from engine.records.snomed import ACRONYMS


@pytest.mark.parametrize(
    "written", ["AF", "af", "AFIB", "Atrial Fibrillation", " atrial-fibrillation ", "atrial_fibrillation"]
)
def test_spelling_case_and_hyphens_make_no_difference(written: str):
    assert finding_of(written) == "AF"


def test_a_letter_means_a_rhythm_in_its_own_source_only():
    assert finding_of("A", "challenge-2017") == "AF"
    assert finding_of("N", "challenge-2017") == "NSR"
    assert finding_of("A") == "A"
    assert finding_of("O", "challenge-2017") == "O"


def test_a_label_that_is_not_in_the_table_keeps_its_name():
    assert finding_of("Brugada pattern") == "Brugada pattern"


def test_the_names_of_the_challenge_mean_themselves_but_for_those_of_one_finding():
    others = {acronym: finding_of(acronym) for acronym in ACRONYMS.values() if finding_of(acronym) != acronym}
    assert others == {"VEB": "PVC", "LPR": "IAVB", "AVB": "IAVB"}
