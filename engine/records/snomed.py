"""SNOMED CT codes as the 2020/2021 Challenge writes them into headers (``#Dx: 426783006,164889003``).

Acronyms are those of the Challenge's own tables, shared where it scores codes as one diagnosis: RBBB is complete right
bundle branch block too, and so on (Perez Alday et al. 2020, Reyna et al. 2021).
"""

from collections.abc import Iterable, Sequence

from engine.records.record import RecordError
from engine.records.wfdb_reader import comment_values

EQUIVALENT = {"713427006": "59118001", "63593006": "284470004", "17338001": "427172004", "733534002": "164909002"}
ACRONYMS = {
    "10370003": "PR", "111975006": "LQT", "11157007": "VBig", "164861001": "MIs", "164865005": "MI",
    "164867002": "OldMI", "164873001": "LVH", "164884008": "VEB", "164889003": "AF", "164890007": "AFL",
    "164895002": "VTach", "164896001": "VF", "164909002": "LBBB", "164917005": "QAb", "164930006": "STIAb",
    "164931005": "STE", "164934002": "TAb", "164937009": "UAb", "164947007": "LPR", "164951009": "abQRS",
    "195042002": "IIAVB", "233917008": "AVB", "251120003": "ILBBB", "251146004": "LQRSV", "253352002": "LAA",
    "27885002": "CHB", "270492004": "IAVB", "284470004": "PAC", "365413008": "PRWP", "39732003": "LAD",
    "413844008": "CMI", "425419005": "IIs", "425623009": "LIs", "425856008": "PVT", "426177001": "SB",
    "426434006": "AnMIs", "426627000": "Brady", "426761007": "SVT", "426783006": "NSR", "427084000": "STach",
    "427172004": "PVC", "427393009": "SA", "428417006": "ERe", "428750005": "NSSTTA", "429622005": "STD",
    "445118002": "LAnFB", "445211001": "LPFB", "446358003": "RAH", "446813000": "LAH", "47665007": "RAD",
    "54329005": "AnMI", "55827005": "LVHV", "55930002": "STC", "57054005": "AMI", "59118001": "RBBB",
    "59931005": "TInv", "6374002": "BBB", "67741000119109": "LAE", "698252002": "NSIVCB", "713422000": "ATach",
    "713426002": "IRBBB", "74390002": "WPW", "89792004": "RVH",
}  # fmt: skip


def diagnosis_codes(comments: Sequence[str]) -> frozenset[str]:
    """Return the codes of a header's ``Dx`` comments, equivalent ones made one.

    Raises RecordError where the header has no ``Dx`` comment, none is given in it, or something in it is not a code.
    """
    value = ",".join(comment_values(comments, "Dx"))
    codes = [code.strip() for code in value.split(",") if code.strip()]
    if not codes or [code.lower() for code in codes] == ["unknown"]:
        raise RecordError("the header gives no diagnosis (#Dx)")
    if not all(code.isascii() and code.isdigit() for code in codes):
        raise RecordError("#Dx holds something other than SNOMED codes")  # free text, which may name a person
    return frozenset(EQUIVALENT.get(code, code) for code in codes)


def in_order(codes: Iterable[str]) -> tuple[str, ...]:
    """Return codes without repetition, by number."""
    return tuple(sorted(set(codes), key=lambda code: (len(code), code)))


def named(codes: Iterable[str]) -> dict[str, list[str]]:
    """Return classes for a task: the acronym where there is one, else the code itself, and the code it stands for."""
    return {ACRONYMS.get(code, code): [code] for code in codes}


def described(codes: Iterable[str]) -> str:
    """Return the codes with their acronyms, for a task's description."""
    return ", ".join(f"{ACRONYMS[code]} {code}" if code in ACRONYMS else code for code in codes)
