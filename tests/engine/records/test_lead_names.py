import numpy as np
import pytest

from engine.records.lead_names import lead_name, lead_names, leads_not_read, renamed
from engine.records.record import LEADS
from engine.records.wfdb_reader import read_header, read_wfdb

LIMB, CHEST = LEADS[:6], LEADS[6:]
C1_TO_C6 = tuple(f"C{k}" for k in range(1, 7))
SPELLINGS = {
    "I": ["I", "i", " I ", "DI", "Lead I", "lead_i", "LeadI", "ECG I", "EKG I", "ECG_I", "ECG: I", "ECG-I",
          "MDC_ECG_LEAD_I", "ECG Lead I", "\u2160", "\uff29", "I # noisy", "I #noisy"],
    "II": ["Ii", "DII", "EKG lead II", "\u2161", "ekg DII"],
    "III": ["DIII", "diii", "Lead III", "\u2162"],
    "aVR": ["AVR", "avr", "aVr", "a VR", "aV R", "AV-R", "AV_R", "a-VR", "Lead aVR", "ECG aVR", "ECG AVR",
            "MDC_ECG_LEAD_AVR"],
    "aVL": ["AVL", "avl", "lead a VL"],
    "aVF": ["AVF", "avf", "MDC_ECG_LEAD_AVF"],
    "V1": ["v1", "ECG V1", "EKG-V1", "Lead C1", "ECG C1", "\uff361", "V1\u00a0"],
    "V6": ["v6", "ECG Lead V6", "V6 # electrode off"],
}  # fmt: skip
OTHERS = ["vx", "MLII", "V3R", "V7", "VR", "-aVR", "ECG -aVR", "ECG-aVR", "Lead -aVR", "1", "ECG 1", "Lead 1", "ECG",
          "EEG I", "C1", "D1", "C3-A2", "ECGI", "EEG C3", "I-II", "Resp", "#", "", "aVRL", "V1-V2", "VI", "IV",
          "CV1", "II+", "MDC_ECG_LEAD_dI", "MDC_ECG_LEAD_DII", "MDC_ECG_LEAD_D1", "MDC_ECG_LEAD_dV1",
          "MDC_ECG_LEAD_V3R"]  # fmt: skip


@pytest.mark.parametrize("lead, spelling", [(lead, one) for lead, names in SPELLINGS.items() for one in names])
def test_a_spelling_that_means_one_lead_is_that_lead(lead, spelling):
    assert lead_name(spelling) == lead


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_that_does_not_mean_one_of_the_twelve_stays(name):
    assert lead_name(name) == name


def test_a_comment_is_no_part_of_any_name():
    assert lead_name("Resp # of somebody") == "Resp"
    assert lead_name("EEG #1") == "EEG #1"


def test_what_a_terminal_would_obey_and_what_is_endless_is_not_shown():
    assert lead_name("Resp\x1b[31m\x07") == "Resp [31m"
    assert len(lead_name("R" * 1000)) == 80


@pytest.mark.parametrize(
    "names, leads",
    [
        ((*LIMB, *C1_TO_C6), LEADS),
        ((*C1_TO_C6, "II", "DI"), (*CHEST, "II", "I")),
        ((*(name.lower() for name in C1_TO_C6), *LIMB), (*CHEST, *LIMB)),
        (("D1", "D2", "D3", *LEADS[3:]), LEADS),
        (("D1", "D2", "D3", "aVR", "aVL", "aVF", *C1_TO_C6), LEADS),
        ((*C1_TO_C6, "ECG"), (*C1_TO_C6, "ECG")),  # an electroencephalogram with an electrocardiogram
        ((*C1_TO_C6, "ECG II"), (*C1_TO_C6, "II")),
        (("I", "II", "C3", "C4"), ("I", "II", "C3", "C4")),  # a sleep study
        ((*LEADS, *C1_TO_C6), (*LEADS, *C1_TO_C6)),
        ((*LIMB, "V1", *C1_TO_C6), (*LIMB, "V1", *C1_TO_C6)),
        (("D1", "D2", "D3"), ("D1", "D2", "D3")),
        (("I", "D2", "D3", *CHEST), ("I", "D2", "D3", *CHEST)),
        (("V1", "v1"), ("V1", "V1")),
    ],
)
def test_names_that_mean_a_lead_only_in_company_are_read_only_in_it(names, leads):
    assert lead_names(names) == leads


def test_names_of_another_lead_are_told_and_spellings_are_not():
    names = ("AVR", "ECG II", "DIII", "C1 # noisy", "Resp", "lead_v2")
    assert renamed(names, ("aVR", "II", "III", "V1", "Resp", "V2")) == {"C1": "V1"}


def test_groups_that_are_not_read_are_counted_and_their_leads_named():
    assert leads_not_read([], LIMB) == ()
    assert leads_not_read([("II", "x")], LIMB) == ("1 more group of leads in its file: not read",)
    others = [("V2", "I", "Resp"), ("V1", "V2")]
    assert leads_not_read(others, LIMB) == ("2 more groups of leads in its file: not read (V1, V2)",)


@pytest.mark.parametrize("matlab", [False, True])
@pytest.mark.parametrize(
    "names",
    [(*LIMB, *C1_TO_C6), [f"ECG {lead}" for lead in LEADS], [f"ECG Lead {lead} # noisy" for lead in LEADS],
     ["DI", "DII", "DIII", "AVR", "AVL", "AVF", *CHEST], [f"MDC_ECG_LEAD_{lead.upper()}" for lead in LEADS]],
)  # fmt: skip
def test_a_record_under_other_names_has_the_same_leads(tmp_path, record_writer, synthetic_ecg, names, matlab):
    path = record_writer(tmp_path / "r", leads=names, matlab=matlab)
    assert read_header(path).leads == LEADS
    assert read_wfdb(path).leads == LEADS
    np.testing.assert_allclose(read_wfdb(path).signals, synthetic_ecg() / 1000, atol=1e-6)
