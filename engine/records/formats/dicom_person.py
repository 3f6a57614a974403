"""Whom a DICOM file says its waveform is of, and when it was acquired (PS3.3, patient and study modules)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from engine.records.formats.contents import Person, person_of, timestamp

_NUMBERS_OF_PERSON = (
    "PatientID",
    "OtherPatientIDs",
    "AccessionNumber",
    "AdmissionID",
    "ServiceEpisodeID",
    "MedicalRecordLocator",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "PatientBirthDate",
    "PatientTelephoneNumbers",
    "PatientAddress",
)
_NAMES_OF_PERSON = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")
_TIMES = (("AcquisitionDateTime",), ("AcquisitionDate", "AcquisitionTime"), ("StudyDate", "StudyTime"))
KEYWORDS = (*_NUMBERS_OF_PERSON, *_NAMES_OF_PERSON, *(keyword for pair in _TIMES for keyword in pair))


def person_and_time(dataset: Any, other_ids: Iterable[str]) -> tuple[Person, datetime | None]:
    """Return whom a dataset is of and when it was acquired; ``other_ids`` are those of its OtherPatientIDsSequence."""
    numbers = {keyword: _texts(dataset, keyword) for keyword in _NUMBERS_OF_PERSON}
    names = [form for keyword in _NAMES_OF_PERSON for name in _texts(dataset, keyword) for form in _forms(name)]
    ids = [*numbers["PatientID"], *numbers["OtherPatientIDs"], *other_ids]
    moments = (timestamp("".join(element_text(dataset, keyword) for keyword in keywords)) for keywords in _TIMES)
    recorded = next((moment for moment in moments if moment is not None), None)
    person = person_of(
        ids,
        (*(text for texts in numbers.values() for text in texts), *names),
        born=timestamp(element_text(dataset, "PatientBirthDate")),
        age=element_text(dataset, "PatientAge"),
        sex=element_text(dataset, "PatientSex"),
        recorded=recorded,
    )
    return person, recorded


def _texts(dataset: Any, keyword: str) -> list[str]:
    """Return the values of an element, which may be several."""
    from pydicom.multival import MultiValue

    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue) else [value]
    return [str(one).strip() for one in values if one is not None]


def _forms(name: str) -> list[str]:
    """Return a name as it is written (family^given^middle^prefix^suffix, up to three scripts) and in its parts."""
    forms = [name]
    for script in name.split("="):
        parts = [part.strip() for part in script.split("^")[:3]]
        forms += [script, *parts, " ".join(filter(None, parts)), " ".join(filter(None, [*parts[1:], parts[0]]))]
    return forms


def element_text(item: Any, keyword: str) -> str:
    """Return the text of an element, stripped; "" where there is no item or element."""
    value = None if item is None else item.get(keyword)
    return "" if value is None else str(value).strip()
