"""Brugada-HUCA: 363 patients studied for Brugada syndrome in Oviedo, Spain; 12 leads, 100 Hz, 12 s, one record each.

``metadata.csv`` has a row a patient, whose record is ``files/ID/ID``. Its ``brugada`` is 0 for healthy, 1 for a
confirmed diagnosis and 2 for "other/atypical cases"; the set's README counts 1 and 2 as Brugada patients, and so does
the label ``brugada`` (69 and 7 of them). ``basal_pattern`` is 1 where the baseline ECG is pathological, whatever the
diagnosis: ``pathological_baseline``. ``sudden_death`` is no label here (11 patients), and no age or sex is published.
All were referred for suspected Brugada syndrome, so that "healthy" is not what it is among the general population.
"""

from collections.abc import Mapping
from pathlib import Path

from engine.records.record import LEADS, Record
from engine.records.wfdb_reader import read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import BRUGADA_HUCA
from engine.sources.tables import read_rows

TABLE = "metadata.csv"
_COLUMNS = ("patient_id", "basal_pattern", "brugada")
_BRUGADA = {"0": False, "1": True, "2": True}
_PATHOLOGICAL = {"0": False, "1": True}


class BrugadaHuca:
    """The Brugada-HUCA tree in a directory. Raises SourceError when the directory is not one."""

    name, version, licence, url, citation = BRUGADA_HUCA
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS
    labels: tuple[str, ...] = ("brugada", "pathological_baseline")

    def __init__(self, root: Path) -> None:
        rows = read_rows(root / TABLE, _COLUMNS, "Brugada-HUCA")
        self._entries = [_entry(root, row, line) for line, row in enumerate(rows, start=2)]
        self.tasks: Mapping[str, TaskDefinition] = {
            "labels": TaskDefinition(
                "Brugada syndrome, confirmed or atypical, and a pathological baseline ECG",
                {label: [label] for label in self.labels},
                labelled_only=False,
            )
        }

    def entries(self) -> list[Entry]:
        """List every record of ``metadata.csv``, in its order."""
        return list(self._entries)

    def read(self, entry: Entry) -> Record:
        """Read one record at 100 Hz. Raises RecordError."""
        return read_wfdb(entry.path)


def is_brugada_huca(root: Path) -> bool:
    """Whether a directory's ``metadata.csv``, which is a name that others use too, has the set's columns."""
    try:
        return (root / TABLE).is_file() and bool(read_rows(root / TABLE, (*_COLUMNS, "sudden_death"), "Brugada-HUCA"))
    except SourceError:
        return False


def _entry(root: Path, row: dict[str, str], line: int) -> Entry:
    patient = row["patient_id"].strip()
    if not patient:
        raise SourceError(f"{root / TABLE}, line {line}: no patient_id")
    path, brugada, basal = root / "files" / patient / patient, row["brugada"].strip(), row["basal_pattern"].strip()
    if brugada not in _BRUGADA or basal not in _PATHOLOGICAL:
        problem = f"brugada is {brugada!r} and basal_pattern {basal!r}; 0, 1, 2 and 0, 1 are known"
        return Entry(patient, path, patient, frozenset(), problem=problem, labels_known=False)
    outcomes = {"brugada": _BRUGADA[brugada], "pathological_baseline": _PATHOLOGICAL[basal]}
    return Entry(patient, path, patient, frozenset(label for label, holds in outcomes.items() if holds))
