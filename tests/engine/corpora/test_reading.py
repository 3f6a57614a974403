from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from engine.corpora import reading
from engine.corpora.corpus import prepare
from engine.corpora.reading import duplicates, read_all
from engine.records.record import LEADS, Record, RecordError
from engine.sources import Entry
from engine.sources.ptbxl import PtbXl


class Echo:
    """A source whose record k is a ramp of slope k; record 3 repeats record 1, record 2 cannot be read."""

    name, version, licence, url, citation = "echo", "1", "none", "none", "none"
    leads = LEADS[6:8]
    labels = ("A",)
    tasks: ClassVar[dict] = {}

    def entries(self) -> list[Entry]:
        listed = [Entry(f"e{k}", Path(f"e{k}"), f"p{k}", frozenset("A")) for k in range(5)]
        return [*listed, Entry("e5", Path("e5"), "p5", frozenset("A"), problem="header cannot be parsed")]

    def read(self, entry: Entry) -> Record:
        k = {"e3": 1}.get(entry.record_id, int(entry.record_id[1:]))
        if k == 2:
            raise RecordError("truncated")
        ramp = np.linspace(0, 1 + k, 1000, dtype=np.float32)
        return Record(np.stack([ramp, -ramp]), 100.0, self.leads)


def test_every_entry_is_answered_in_order_and_none_stops_the_others():
    readings = read_all(Echo(), Echo().entries())
    assert [r.record for r in readings] == ["e0", "e1", "e2", "e3", "e4", "e5"]
    assert [r.usable for r in readings] == [True, True, False, True, True, False]
    assert readings[2].problems == ("truncated",)
    assert readings[5].problems == ("header cannot be parsed",)


def test_equal_signals_are_found():
    assert duplicates(read_all(Echo(), Echo().entries())) == [("e1", "e3")]


def test_blocks_are_written_at_their_place(tmp_path: Path):
    raw = tmp_path / "raw"
    raw.touch()
    read_all(Echo(), Echo().entries(), raw)
    blocks = np.fromfile(raw, np.float32).reshape(-1, 2, 1000)
    assert blocks[:, 0, -1].tolist() == [1, 2, 0, 2, 5]


def test_progress_ends_at_the_total():
    seen: list[tuple[int, int]] = []
    read_all(Echo(), Echo().entries(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)


def test_worker_processes_prepare_the_same_corpus(ptbxl_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    alone = prepare(PtbXl(ptbxl_tree), tmp_path / "alone" / "set")[0]
    monkeypatch.setattr(reading, "_WORTH_WORKERS", 0)
    monkeypatch.setattr(reading, "_CHUNK", 50)
    together = prepare(PtbXl(ptbxl_tree), tmp_path / "together" / "set", workers=2)[0]
    assert together.content_hash == alone.content_hash
    assert (together.root / "corpus.json").read_bytes() == (alone.root / "corpus.json").read_bytes()
