"""A packed corpus comes back the same to the bit, or a sentence says what is wrong with its file."""

import bz2
import json
import zipfile

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, CorpusError, prepare
from engine.corpora.synthetic import Synthetic
from engine.corpora.travel import PackedFileError, _decode, _encode, pack, unpack
from engine.records.record import LEADS, Record
from engine.sources import Entry

FILES = ("corpus.json", "labels.npy", "records.npz", "signals.npy")


class WholeMicrovolts(Synthetic):
    """Synthetic records as a recorder stores them: whole microvolts, derived limb leads rounded."""

    def read(self, entry: Entry) -> Record:
        drawn = super().read(entry).signals.astype(np.float64)
        one, two = np.rint(1000 * drawn[:2])
        limb = [two - one, -(one + two) / 2, one - two / 2, two - one / 2]
        samples = np.concatenate([[one, two], np.rint(limb), np.rint(1000 * drawn[6:])])
        return Record((samples / 1000).astype(np.float32), 100.0, LEADS)


def read(corpus: Corpus) -> dict[str, bytes]:
    return {name: (corpus.root / name).read_bytes() for name in FILES}


def test_a_corpus_of_whole_microvolts_comes_back_byte_for_byte_and_small(tmp_path):
    recorded = prepare(WholeMicrovolts(30), tmp_path / "recorded")[0]
    (file,) = pack(recorded, tmp_path / "packed")
    back = unpack(file, tmp_path / "corpora", workers=2)
    assert back.root == tmp_path / "corpora" / "recorded"
    assert read(back) == read(recorded)
    assert file.stat().st_size < 0.2 * recorded.signals.nbytes  # 8 of 12 leads, less than a byte and a half a sample


def test_a_resampled_corpus_comes_back_byte_for_byte(tmp_path):
    drawn = prepare(Synthetic(30), tmp_path / "drawn")[0]  # its samples are no whole microvolts
    (file,) = pack(drawn, tmp_path / "packed", workers=2)
    assert read(unpack(file, tmp_path / "corpora")) == read(drawn)


ODD = {
    "zeros of both signs": np.array([0.0, -0.0], np.float32),
    "the smallest numbers": np.array([1e-45, -1e-45, 1.1754944e-38, -2e-20], np.float32),
    "half microvolts": np.array([0.0005, -0.0005, 0.0015, 1.0005], np.float32),
    "large and small in turn": np.array([500_000.0, -500_000.0, 1e-7, 3.2], np.float32),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
@pytest.mark.parametrize("leads", [("I",), ("I", "II", "III", "V1"), LEADS], ids=len)
def test_any_samples_come_back_to_the_bit(leads: tuple[str, ...], values):
    rng = np.random.default_rng(0)
    signals = rng.choice(values, (3, len(leads), 50)) + rng.choice([0, 0, 0.25], (3, len(leads), 50)).astype(np.float32)
    facts, planes = _encode(signals, leads)
    assert _decode(facts, planes, leads, 50).tobytes() == signals.tobytes()


def test_derived_limb_leads_and_a_coarse_step_cost_next_to_nothing():
    rng = np.random.default_rng(0)
    measured = 5 * rng.integers(-100, 100, (20, 8, 1000))
    one, two = measured[:, :1].astype(float), measured[:, 1:2].astype(float)
    limb = np.rint(np.concatenate([two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1))
    eight = (np.concatenate([measured[:, :2], measured[:, 2:]], axis=1) / 1000).astype(np.float32)
    twelve = (np.concatenate([measured[:, :2], limb, measured[:, 2:]], axis=1) / 1000).astype(np.float32)

    def size(signals, leads) -> int:
        return sum(map(len, _encode(signals, leads)[1]))

    alone = size(eight, (*LEADS[:2], *LEADS[6:]))
    assert size(twelve, LEADS) < 1.01 * alone
    assert alone < 1.2 * 20 * 8 * 1000  # differences of -199 to 199 steps


def test_a_file_in_parts_is_read_as_one(corpus: Corpus, tmp_path):
    whole = pack(corpus, tmp_path / "whole")[0].read_bytes()
    parts = pack(corpus, tmp_path / "packed", part_size=len(whole) // 2 - 1)
    assert [part.name for part in parts] == ["packed.001", "packed.002", "packed.003"]
    assert b"".join(part.read_bytes() for part in parts) == whole
    assert read(unpack(tmp_path / "packed", tmp_path / "corpora")) == read(corpus)


def test_a_missing_part_is_named(corpus: Corpus, tmp_path):
    _, second, *_ = pack(corpus, tmp_path / "packed", part_size=(corpus.root / "signals.npy").stat().st_size // 10)
    second.unlink()
    with pytest.raises(PackedFileError, match=r"part .* is missing"):
        unpack(tmp_path / "packed", tmp_path / "corpora")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PackedFileError, match="no packed corpus at"):
        unpack(tmp_path / "packed", tmp_path / "corpora")


@pytest.mark.parametrize("where", [0.05, 0.3, 0.6, 0.99])
def test_a_damaged_file_is_refused_and_leaves_nothing(where: float, corpus: Corpus, tmp_path):
    (file,) = pack(corpus, tmp_path / "packed")
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(CorpusError):
        unpack(file, tmp_path / "corpora")
    assert not list(tmp_path.glob("corpora/*"))


def test_a_file_that_is_cut_off_is_refused(corpus: Corpus, tmp_path):
    (file,) = pack(corpus, tmp_path / "packed")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(PackedFileError, match="damaged"):
        unpack(file, tmp_path / "corpora")


def test_a_corpus_that_is_there_is_not_replaced(corpus: Corpus, tmp_path):
    (file,) = pack(corpus, tmp_path / "packed")
    unpack(file, tmp_path / "corpora")
    with pytest.raises(CorpusError, match="exists already"):
        unpack(file, tmp_path / "corpora")


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "..", "", "a/b"])
def test_a_file_whose_corpus_would_lie_elsewhere_is_refused(name: str, corpus: Corpus, tmp_path):
    (file,) = pack(corpus, tmp_path / "packed")
    with zipfile.ZipFile(file) as archive:
        content = {one: archive.read(one) for one in archive.namelist()}
    manifest = json.loads(bz2.decompress(content["corpus.json.bz2"])) | {"name": name}
    content["corpus.json.bz2"] = bz2.compress(json.dumps(manifest).encode())
    with zipfile.ZipFile(file, "w") as archive:
        for one, data in content.items():
            archive.writestr(one, data)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PackedFileError, match="cannot be named"):
        unpack(file, tmp_path / "corpora")
    assert sorted(tmp_path.iterdir()) == before
