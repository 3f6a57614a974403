"""Files of devices in each format, next to the folder that ``ECGADVISE_DATA`` names or in ``.data/formats``.

``truth.json`` there says what is in each, decoded by others.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.records.formats.described.told import FILE_NAME
from engine.records.formats.recordings import recordings_in
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform

ROOT = Path(os.environ.get("ECGADVISE_DATA") or Path(__file__).parents[2] / ".data" / "real").with_name("formats")
TOLD = {
    ".txt": f'fs = 500\nunit = "uV"\nleads = {json.dumps(LEADS)}\n',
    "fhir": 'unit = "uV"\nzero = 2048\n',
}  # what a file does not say itself
WITHIN = 1e-5  # millivolt; truth is written to five digits after the point
pytestmark = pytest.mark.real


def listed() -> list[dict[str, Any]]:
    return json.loads((ROOT / "truth.json").read_text())["files"] if ROOT.is_dir() else [{"file": "truth.json"}]


def put(known: dict[str, Any], tmp_path: Path) -> Path:
    """Copy a file, and what has to be told of it next to it."""
    source = ROOT / known["file"]
    if not source.is_file():
        pytest.skip(f"{source} is not there: set ECGADVISE_DATA to a folder that has formats next to it")
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes())
    told = TOLD.get(source.parent.name, TOLD.get(source.suffix))
    if told is not None:
        (tmp_path / FILE_NAME).write_text(f'["*"]\n{told}')
    return path


@pytest.mark.parametrize("known", listed(), ids=lambda known: known["file"])
def test_a_real_file_holds_what_others_decode(known: dict[str, Any], tmp_path: Path):
    (recording,) = recordings_in(put(known, tmp_path))
    if known.get("must_refuse"):
        with pytest.raises(RecordError) as refused:
            recording.read()
        assert str(refused.value) != ""
        return
    truth = known["groups"][known["rhythm_group"]]
    contents = recording.contents()
    assert contents.leads == tuple(truth["stored_leads"])
    assert contents.n_samples == truth["n_samples"]
    assert contents.fs == pytest.approx(truth["fs"], rel=1e-12)
    assert set(truth["derived_leads"]) <= set(contents.derived)
    values = dict(zip(contents.leads, np.asarray(contents.decode(), np.float64), strict=True))
    if truth["derived_leads"]:
        derived = conform(contents.record(), fs=contents.fs, seconds=round(contents.n_samples / contents.fs, 1) - 0.5,
                          leads=tuple(truth["derived_leads"]))  # fmt: skip
        for lead, row in zip(derived.leads, derived.signals, strict=True):
            np.testing.assert_allclose(row[:10], truth["first10_mV"][lead], atol=WITHIN)
    for lead, row in values.items():
        np.testing.assert_allclose(row[:10], truth["first10_mV"][lead], atol=WITHIN)
        assert [row.min(), row.max()] == pytest.approx(truth["min_max_mV"][lead], abs=WITHIN)
        assert row.sum() == pytest.approx(truth["sum_mV"][lead], abs=WITHIN * len(row))
