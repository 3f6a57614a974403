"""A dataset for whoever has none: synthetic records, written as a hospital would have them, and a short pilot."""

from pathlib import Path
from typing import TYPE_CHECKING

from advisor.service.access import Service
from advisor.service.jobs.kinds import CheckJob, PilotJob
from engine.files import written_whole

if TYPE_CHECKING:
    from engine.records.record import Record

NAME = "synthetic records (demo)"
N_RECORDS = 400
_MINUTES = 1.0
_BY = "demo"


def add_demo(service: Service) -> str:
    """Add the dataset and the pilot where they are not there; say what was added. Raises UserError and OSError."""
    known = [one for one in service.datasets.list() if one.name == NAME]
    if known:
        return f"the dataset {NAME!r} is there: {known[0].id}"
    folder = service.store.incoming / "demo"
    with written_whole(folder) as target:
        write_records(target)
    dataset = service.datasets.adopt(folder, NAME, _BY)
    service.jobs.submit(CheckJob(kind="check", dataset=dataset.id), _BY)
    service.jobs.submit(PilotJob(kind="pilot", dataset=dataset.id, minutes=_MINUTES), _BY)
    return f"added {N_RECORDS} synthetic records as the dataset {NAME!r}, and a pilot of a minute on them"


def write_records(folder: Path, n: int = N_RECORDS) -> None:
    """Write ``n`` records as WFDB, with a table of patients and labels. Raises OSError."""
    from engine.corpora.synthetic import DIAGNOSES, Synthetic

    source = Synthetic(n)
    lines = [",".join(("record", "patient", "age", "sex", *DIAGNOSES))]
    for entry in source.entries():
        _write(source.read(entry), entry.record_id, folder)
        labels = (str(int(name in entry.labels)) for name in DIAGNOSES)
        lines.append(",".join((entry.record_id, entry.patient, f"{entry.age:g}", str(entry.sex), *labels)))
    (folder / "labels.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _write(record: "Record", name: str, folder: Path) -> None:
    import wfdb

    n_leads = len(record.leads)
    wfdb.wrsamp(
        name, fs=record.fs, units=["mV"] * n_leads, sig_name=list(record.leads), fmt=["16"] * n_leads,
        p_signal=record.signals.T.astype("float64"), write_dir=str(folder),
    )  # fmt: skip
