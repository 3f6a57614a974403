"""What is odd about records is kept with their corpus and said in one sentence a kind, without a record's name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, prepare
from engine.corpora.reading import Reading, summarise
from engine.corpora.remarks import equal_signals, left_out, remarks
from engine.sources.own_directory import Directory


@pytest.fixture
def odd(tmp_path: Path, record_writer: Any, synthetic_ecg: Any) -> Corpus:
    """Eight records: 0, 4 and 1, 5 are equal, of one patient and of two; 2, 3 are small, 6 is flat in V1, 7 broken."""
    root, rows = tmp_path / "secret-ward", ["record,patient,AF"]
    for k in range(8):
        samples = synthetic_ecg(10, 250, k if k not in (4, 5) else k - 4)
        if k == 6:
            samples[6] = 0
        gain = f"{1000 * 10 ** (k if k in (2, 3) else 0)}/mV"
        record_writer(root / f"secret{k}", samples, "250", gain=gain)
        rows.append(f"secret{k},{'one' if k in (0, 4) else k},{k % 2}")
    (root / "secret7.dat").write_bytes(b"")
    (root / "labels.csv").write_text("\n".join(rows))
    return prepare(Directory(root), tmp_path / "corpus")[0]


def test_every_kind_of_remark_is_one_sentence_with_its_count(odd: Corpus):
    said = remarks(odd, np.array([], np.int64))
    assert len(said) == 3
    assert said[0].startswith("2 of 7 records kept with a remark such as: spans ")
    assert said[0].endswith("mV from peak to peak: the unit or the gain looks wrong")
    assert said[1] == "1 of 7 records kept with a remark: lead V1 is flat"
    assert not any("secret" in sentence for sentence in said)
    assert left_out(odd, odd.task("")) == ("1 of 8 records cannot be used and were left out",)


def test_remarks_on_several_leads_are_kinds_of_their_own():
    said = [Reading(f"r{k}", True, (f"lead V{k % 6 + 1} is flat",), bytes([k])) for k in range(12)]
    kinds = summarise(said)["kinds"]
    assert kinds == [{"words": f"lead V{k} is flat", "records": 2, "alike": True} for k in range(1, 7)]


@pytest.mark.parametrize(("test", "divided"), [([], 0), ([0], 1), ([0, 4], 0), ([0, 1], 2), ([0, 4, 5, 1, 2], 0)])
def test_equal_signals_are_counted_across_patients_and_across_the_split(odd: Corpus, test: list[int], divided: int):
    said = remarks(odd, np.array(test, np.int64))[-1]
    copies = f"{divided} with a copy in the test and one outside it" if divided else "each on one side of the test"
    assert said == f"7 records: 2 groups of equal signals, 1 of several patients, {copies}"
    assert equal_signals(odd) == ("7 records: 2 groups of equal signals, 1 of several patients",)


def test_a_corpus_of_an_older_version_says_nothing_and_one_without_oddities_neither(corpus: Corpus, odd: Corpus):
    nothing = np.array([], np.int64)
    assert remarks(corpus, nothing) == left_out(corpus, corpus.task("")) == equal_signals(corpus) == ()
    del odd.manifest["remarks"]
    assert remarks(odd, nothing) == equal_signals(odd) == ()


def test_a_corpus_keeps_how_its_records_were_recorded(tmp_path: Path, record_writer: Any, synthetic_ecg: Any):
    rows = ["record,AF"]
    for k, (fs, seconds) in enumerate([(500, 10), (500, 12), (250, 30)]):
        record_writer(tmp_path / "ward" / f"r{k}", synthetic_ecg(seconds, fs, k), str(fs))
        rows.append(f"r{k},{k % 2}")
    (tmp_path / "ward" / "labels.csv").write_text("\n".join(rows))
    corpus = prepare(Directory(tmp_path / "ward"), tmp_path / "corpus")[0]
    assert corpus.manifest["recorded"] == {"fs": [[250.0, 1], [500.0, 2]], "seconds": [10.0, 30.0]}
