"""One name for a finding that sources write differently: AFIB, A and Atrial fibrillation are AF.

Acronyms are those of the PhysioNet/CinC Challenge where it has one (``engine.records.snomed``), else those of SCP-ECG.
A name stands here where it means the same finding in the sources that were read for it: PTB-XL's SCP-ECG codes, the
Challenges of 2017 (letters, which mean a rhythm there and nothing elsewhere) and 2018 (CPSC), LUDB's words. A label
that is not in the table is known by its own name.
"""

_SPELLINGS = {
    "NSR": ("SR", "sinus rhythm", "normal sinus rhythm"),
    "NORM": ("normal", "normal ECG", "healthy", "healthy control", "healthy controls"),
    "AF": ("AFIB", "atrial fibrillation"),
    "AFL": ("AFLT", "atrial flutter"),
    "STach": ("STACH", "sinus tachycardia"),
    "SB": ("SBRAD", "sinus bradycardia"),
    "SA": ("SARRH", "sinus arrhythmia", "sinus irregularity"),
    "SVT": ("PSVT", "SVTAC", "supraventricular tachycardia"),
    "IAVB": ("1AVB", "LPR", "_AVB", "I-AVB", "first degree AV block", "I degree AV block", "prolonged PR interval"),
    "LBBB": ("CLBBB", "left bundle branch block", "complete left bundle branch block"),
    "RBBB": ("CRBBB", "right bundle branch block", "complete right bundle branch block"),
    "ILBBB": ("incomplete left bundle branch block",),
    "IRBBB": ("incomplete right bundle branch block",),
    "LAnFB": ("LAFB", "LAFB/LPFB", "left anterior fascicular block", "left anterior hemiblock"),
    "NSIVCB": ("IVCD", "nonspecific intraventricular conduction disorder"),
    "WPW": ("Wolff-Parkinson-White",),
    "PAC": ("APC", "SVEB", "premature atrial contraction", "premature atrial contractions"),
    "PVC": ("VEB", "VPC", "premature ventricular contraction", "premature ventricular contractions"),
    "STD": ("STD_", "ST depression"),
    "STE": ("STE_", "ST elevation"),
    "TInv": ("INVT", "T wave inversion"),
    "LQT": ("LNGQT", "long QT", "prolonged QT interval"),
    "MI": ("myocardial infarction",),
    "AMI": ("anterior myocardial infarction",),
    "IMI": ("inferior myocardial infarction",),
    "LMI": ("lateral myocardial infarction",),
    "LVH": ("left ventricular hypertrophy",),
    "RVH": ("right ventricular hypertrophy",),
    "LAE": ("LAO/LAE", "left atrial enlargement", "left atrial hypertrophy", "left atrial overload"),
    "RAH": ("RAO/RAE", "right atrial enlargement", "right atrial hypertrophy", "right atrial overload"),
    "LAD": ("left axis deviation", "Electric axis of the heart: left axis deviation"),
    "PR": ("PACE", "paced rhythm", "pacing rhythm", "pacemaker"),
}
_OF_A_SOURCE = {"challenge-2017": {"n": "NSR", "a": "AF"}}  # letters of one source alone


def _plain(name: str) -> str:
    return " ".join(name.replace("-", " ").replace("_", " ").casefold().split())


_FINDINGS = {_plain(name): finding for finding, names in _SPELLINGS.items() for name in (finding, *names)}


def finding_of(label: str, source: str = "") -> str:
    """Return what a label of a source is called here; a label that is not in the table keeps its name.

    Upper and lower case, hyphens, underscores and spaces make no difference to what is in the table.
    """
    plain = _plain(label)
    return _OF_A_SOURCE.get(source, {}).get(plain) or _FINDINGS.get(plain, label)
