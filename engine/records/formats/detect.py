"""Which format a file is in, told by its name and, where a name says too little, by its first bytes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.records.file_content import read_content
from engine.records.formats import dicom, edf, kardia, scp
from engine.records.formats.contents import Contents
from engine.records.formats.xml_documents import aecg, cardiosoft, fhir, muse, schiller, sierra
from engine.records.formats.xml_documents.tree import root_name
from engine.records.record import RecordError

_FIRST_BYTES = 4096  # of a file, which tell its format
_PREAMBLE = slice(128, 132)
_EDF_VERSIONS = (b"0       ", b"\xffBIOSEMI")  # the first eight bytes of EDF, and of BDF
_MARKS = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # what may stand before a document's first letter, whatever its encoding
_WFDB_SUFFIXES = {".hea", ".dat", ".mat", ".atr", ".xws"}
_NO_RECORDINGS = {  # which is told without looking into them: a folder may have very many files
    ".npy", ".npz", ".h5", ".hdf5", ".csv", ".tsv", ".txt", ".asc", ".toml", ".ini", ".cfg", ".yaml", ".yml", ".md",
    ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".rtf", ".pdf", ".htm", ".html", ".css", ".js",
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".svg", ".tif", ".tiff", ".mp4",
    ".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar",
    ".db", ".sqlite", ".parquet", ".feather", ".pkl", ".pickle", ".joblib", ".onnx", ".pt", ".pth", ".ckpt",
    ".safetensors", ".py", ".pyc", ".ipynb", ".m", ".r", ".c", ".h", ".cpp", ".sh", ".bat", ".exe", ".dll", ".so",
    ".log", ".tmp", ".lock",
}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """A format by its name in words, and the function that opens a file of it."""

    title: str
    open: Callable[[Path], Contents]


FORMATS: Mapping[str, Format] = {
    "aecg": Format("HL7 aECG", aecg.open_aecg),
    "cardiosoft": Format("CardioSoft XML", cardiosoft.open_cardiosoft),
    "dicom": Format("DICOM", dicom.open_dicom),
    "edf": Format("EDF", edf.open_edf),
    "fhir": Format("FHIR", fhir.open_fhir),
    "kardia": Format("Kardia ATC", kardia.open_kardia),
    "muse": Format("MUSE XML", muse.open_muse),
    "schiller": Format("Schiller XML", schiller.open_schiller),
    "scp": Format("SCP-ECG", scp.open_scp),
    "sierra": Format("Philips XML", sierra.open_sierra),
}
_BY_SUFFIX = {
    ".dcm": "dicom", ".dicom": "dicom", ".ima": "dicom", ".scp": "scp", ".edf": "edf", ".bdf": "edf", ".atc": "kardia",
}  # fmt: skip
_BY_ROOT = {
    aecg.ROOT: "aecg",
    cardiosoft.ROOT: "cardiosoft",
    fhir.BUNDLE: "fhir",
    fhir.ROOT: "fhir",
    muse.ROOT: "muse",
    sierra.ROOT: "sierra",
}
_FHIR_IN_JSON = re.compile(rb"[\"']resourceType[\"']\s*:\s*[\"'](?:Observation|Bundle)[\"']")


def format_of(path: Path) -> str | None:
    """Return which of ``FORMATS`` a file is in, or claims to be in by its name; None for any other.

    Archives write DICOM under names without a suffix, or that end in numbers, and devices under suffixes of their own:
    such files are looked into.
    """
    suffix = path.suffix.lower()
    if suffix in _WFDB_SUFFIXES or suffix in _NO_RECORDINGS:
        return None
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    try:
        first = read_content(path, 0, _FIRST_BYTES)
        if suffix == ".json":
            return "fhir" if _FHIR_IN_JSON.search(first) else None
        if suffix != ".xml" and first[_PREAMBLE] == b"DICM":
            return "dicom"
        if suffix != ".xml" and scp.is_scp(first):
            return "scp"
        if suffix != ".xml" and first.startswith(_EDF_VERSIONS):
            return "edf"
        root = root_name(first) if first.lstrip(_MARKS).startswith(b"<") else ""
    except RecordError:  # unreadable, or in an encoding that no document of a recording has
        return None
    return _BY_ROOT.get(root, "schiller" if root.endswith(schiller.ROOT) else None)


def formats_in_words() -> str:
    """Return the names of the formats that are read besides WFDB, for a message."""
    *most, last = (one.title for one in FORMATS.values())
    return f"{', '.join(most)} or {last}"


def no_format() -> str:
    """Return what is to be said of a file that no format is told of."""
    return f"not in a format that is read: WFDB, {formats_in_words()}"
