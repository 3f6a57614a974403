"""Write a folder of synthetic records as a hospital has them: recordings, and one table of patients and labels.

The labels are rhythms and forms that were drawn into the records; they mean nothing clinically. The folder is what
``ecgadvise recommend --data`` and ``ecgadvise train --data`` take; yours looks the same, with your own records.

python examples/synthetic_records.py ward 400
"""

import csv
import sys
from pathlib import Path

import wfdb

import ecgadvise  # noqa: F401 so that the packages below are found
from engine.corpora.synthetic import DIAGNOSES, Synthetic


def write_folder(folder: Path, n_records: int, seed: int = 0) -> None:
    """Write WFDB recordings of 12 leads, 10 s and 100 Hz, and ``labels.csv``: a row a recording, 0 or 1 a label.

    Another ``seed`` draws other people.
    """
    folder.mkdir(parents=True)
    source = Synthetic(n_records, seed)
    rows = []
    for entry in source.entries():
        record = source.read(entry)
        units, formats = ["mV"] * len(record.leads), ["16"] * len(record.leads)
        wfdb.wrsamp(
            entry.record_id, fs=record.fs, units=units, sig_name=list(record.leads), fmt=formats,
            p_signal=record.signals.T.astype("float64"), write_dir=str(folder),
        )  # fmt: skip
        rows.append([entry.record_id, entry.patient, *(int(label in entry.labels) for label in DIAGNOSES)])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([["record", "patient", *DIAGNOSES], *rows])


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]), int(sys.argv[2]))
