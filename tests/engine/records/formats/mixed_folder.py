"""A folder with files of every format that is read, of synthetic hearts and marked people, and one table of labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.corpora.synthetic import Synthetic
from engine.records.record import LEADS
from engine.records.signal import resample
from tests.engine.records.formats.writers_aecg import aecg_bytes
from tests.engine.records.formats.writers_cardiosoft import cardiosoft_bytes
from tests.engine.records.formats.writers_dicom import dicom_bytes
from tests.engine.records.formats.writers_edf import edf_bytes
from tests.engine.records.formats.writers_fhir import fhir_bytes
from tests.engine.records.formats.writers_kardia import kardia_bytes
from tests.engine.records.formats.writers_muse import muse_bytes
from tests.engine.records.formats.writers_schiller import schiller_bytes
from tests.engine.records.formats.writers_scp import scp_bytes
from tests.engine.records.formats.writers_sierra import sierra_bytes

FS = 500
SURNAME, FIRST_NAME, BIRTH = "Qxtorova", "Zvonimir", date(1947, 3, 11)
NUMBER = "MRN884213"  # how every patient's begins
RECORDED = datetime(2020, 5, 18, 15, 48, 11)
LABELS = ("irregular rhythm", "wide QRS")
STORED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")  # of formats that keep no lead that follows from others
TOML = f'["*.csv"]\nfs = {FS}\nunit = "uV"\n\n["*.npy"]\nfs = {FS}\nunit = "uV"\nleads = {list(LEADS)!r}\n'.replace(
    "'", '"'
)
Signals = NDArray[np.int64]


@dataclass(frozen=True)
class Someone:
    """A person of a file, whose number nobody else has."""

    number: str


def _rows(signals: Signals, leads: Sequence[str]) -> Signals:
    return signals[[LEADS.index(lead) for lead in leads]]


def _kardia(signals: Signals, _who: Someone) -> bytes:
    return kardia_bytes(_rows(signals, LEADS), LEADS, FS, recorded=RECORDED)


_XML = {"name": SURNAME, "first_name": FIRST_NAME, "birth": BIRTH, "recorded": RECORDED}
_WHOLE = {"name": f"{FIRST_NAME} {SURNAME}", "birth": BIRTH.isoformat(), "recorded": RECORDED}
# By the suffix of the file's name: what it holds. Signals are in microvolt, twelve leads.
WRITERS: Mapping[str, Callable[[Signals, Someone], bytes]] = {
    "muse.xml": lambda x, who: muse_bytes(_rows(x, STORED), STORED, FS, patient=who.number, **_XML),
    "cardiosoft.xml": lambda x, who: cardiosoft_bytes(x, LEADS, FS, patient=who.number, **_XML),
    "schiller.xml": lambda x, who: schiller_bytes(x, [lead.upper() for lead in LEADS], FS, patient=who.number, **_XML),
    "aecg.xml": lambda x, who: aecg_bytes(x, LEADS, FS, patient=who.number, **_XML),
    "sierra.xml": lambda x, who: sierra_bytes(x, LEADS, FS, patient=who.number, **_WHOLE),
    "fhir.json": lambda x, who: fhir_bytes(x, LEADS, FS, patient=who.number, form="json", **_WHOLE),
    "fhir.xml": lambda x, who: fhir_bytes(x, LEADS, FS, patient=who.number, form="xml", **_WHOLE),
    "scp": lambda x, who: scp_bytes(_rows(x, STORED), STORED, FS, patient=who.number, **_XML),
    "dcm": lambda x, who: dicom_bytes(
        x, LEADS, FS, patient=who.number, name=f"{SURNAME}^{FIRST_NAME}", birth=BIRTH, recorded=RECORDED
    ),
    "edf": lambda x, who: edf_bytes(
        x, LEADS, FS, patient=who.number, name=f"{FIRST_NAME}_{SURNAME}", birth=BIRTH, recorded=RECORDED
    ),
    "atc": _kardia,
}  # fmt: skip


def heart(k: int) -> tuple[Signals, frozenset[str]]:
    """Return the k-th synthetic recording, whole 5 uV (12 leads, 10 s at 500 Hz), and its labels.

    The limb leads follow from I and II to the unit: formats leave some out.
    """
    source = Synthetic(k + 1)
    entry = source.entries()[k]
    millivolt = resample(source.read(entry).signals, 100, FS)[:, : 10 * FS]
    counts = np.round(millivolt * 100).astype(np.int64) * 2  # even numbers of 5 uV, so that halves are whole
    first, second = counts[0], counts[1]
    counts[2], counts[3] = second - first, -(first + second) // 2
    counts[4], counts[5] = first - second // 2, second - first // 2
    return counts * 5, entry.labels


def write_mixed(root: Path, n_each: int = 1) -> dict[str, Someone]:
    """Write ``n_each`` recordings in every format below ``root``, and ``labels.csv``; return whose each record is.

    Two recordings in a row of a format are of one person.
    """
    people: dict[str, Someone] = {}
    rows: list[tuple[str, frozenset[str]]] = []
    k = 0
    for suffix, write in WRITERS.items():
        for j in range(n_each):
            name, who = f"e{k:03d}.{suffix}", Someone(f"{NUMBER}{k - j % 2:03d}")
            signals, labels = heart(k)
            folder = root / suffix.replace(".", "-")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(write(signals, who))
            record = f"{folder.name}/{Path(name).stem}"
            rows.append((f"{folder.name}/{name}", labels))
            k += 1
            if suffix != "atc":  # the format has no person
                people[record] = who
    for write_one, letter in ((_write_csv, "c"), (_write_npy, "n")):
        for j in range(n_each):
            signals, labels = heart(k)
            write_one(root, f"{letter}{j}", signals)
            rows.append((f"{letter}{j}", labels))
            k += 1
    for write_many, stem in ((_write_npz, "stack"), (_write_hdf5, "tracings")):
        hearts = [heart(k + j) for j in range(n_each)]
        k += n_each
        write_many(root / stem, [signals for signals, _labels in hearts])
        rows += [(f"{stem}/{100 + j}", labels) for j, (_signals, labels) in enumerate(hearts)]
    (root / "signals.toml").write_text(TOML)
    lines = [f"{record},{','.join(str(int(label in labels)) for label in LABELS)}" for record, labels in rows]
    (root / "labels.csv").write_text("\n".join([f"record,{','.join(LABELS)}", *lines]) + "\n")
    return people


def _write_csv(root: Path, name: str, signals: Signals) -> None:
    np.savetxt(root / f"{name}.csv", signals.T, fmt="%d", delimiter=",", header=",".join(LEADS), comments="")


def _write_npy(root: Path, name: str, signals: Signals) -> None:
    np.save(root / f"{name}.npy", signals.astype(np.int16))


def _write_npz(path: Path, many: Sequence[Signals]) -> None:
    ids = np.array([str(100 + j) for j in range(len(many))])
    np.savez(
        path.with_suffix(".npz"),
        signals=np.stack(many).astype(np.int16),
        ids=ids,
        fs=FS,
        unit="uV",
        leads=np.array(LEADS),
    )


def _write_hdf5(path: Path, many: Sequence[Signals]) -> None:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        tracings = file.create_dataset("tracings", data=np.stack(many).transpose(0, 2, 1) / 1000)
        tracings.attrs["fs"], tracings.attrs["unit"], tracings.attrs["leads"] = FS, "mV", list(LEADS)
        file["exam_id"] = np.arange(100, 100 + len(many))
