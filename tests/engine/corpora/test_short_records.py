"""Records of another length than 10 s, and other rates: used as asked for, and never without being asked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.corpora.corpus import Corpus, CorpusError, TooManyBadError, prepare, short_records
from engine.corpora.opening import check_sampling, identify_tree, open_directory
from engine.corpora.survey import survey
from engine.corpora.travel import pack, unpack
from engine.records.contract import DEFAULT_SAMPLING, Sampling, SamplingError
from engine.records.record import LEADS, Record
from engine.records.short_records import find_short
from engine.sources import Entry, TaskDefinition
from engine.sources.detect import open_source


class Bedside:
    """Records of the given lengths in seconds, noise at 100 Hz that depends on the number of the record alone."""

    name, version, licence, url, citation = "bedside", "1", "none", "", "none"
    leads: tuple[str, ...] = LEADS[6:8]
    labels: tuple[str, ...] = ("A",)

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.tasks = {"labels": TaskDefinition("letters", {"A": ["A"]}, labelled_only=False)}

    def entries(self) -> list[Entry]:
        numbers = range(len(self.seconds))
        return [Entry(f"r{k}", Path(f"r{k}"), f"p{k}", frozenset("A" if k % 2 else "")) for k in numbers]

    def read(self, entry: Entry) -> Record:
        number = int(entry.record_id[1:])
        noise = np.random.default_rng(number).normal(0, 0.3, (2, 2000)).astype(np.float32)
        return Record(noise[:, : round(100 * self.seconds[number])], 100.0, self.leads)


@pytest.mark.parametrize(
    ("lengths", "usable", "listed", "asked", "said"),
    [
        ([7.0] * 4, 0, 4, DEFAULT_SAMPLING,
         "4 of 4 records are 7 s long, and 10 s are needed: --seconds 7 takes the first 7 s of all"),
        ([7.0] * 4, 3, 8, DEFAULT_SAMPLING,  # one of the eight cannot be used for another reason
         "4 of 8 records are 7 s long, and 10 s are needed: --seconds 7 takes the first 7 s of 7"),
        ([4.0, *[6.0] * 10, *[9.5] * 9], 2, 22, DEFAULT_SAMPLING,
         "20 of 22 records are 4 to 9.5 s long, and 10 s are needed: --seconds 6 takes the first 6 s of 21"),
        ([7.3] * 4, 0, 4, DEFAULT_SAMPLING,
         "4 of 4 records are 7.3 s long, and 10 s are needed: --seconds 7.3 takes the first 7.3 s of all"),
        ([7.0025] * 4, 0, 4, DEFAULT_SAMPLING,
         "4 of 4 records are 7.0025 s long, and 10 s are needed: --seconds 7 takes the first 7 s of all"),
        ([7.3] * 4, 0, 4, Sampling(8, 125),  # 912.5 samples
         "4 of 4 records are 7.3 s long, and 8 s are needed: --seconds 7 takes the first 7 s of all"),
        ([9.998] * 4, 0, 4, DEFAULT_SAMPLING,  # 4,999 samples at 500 Hz
         "4 of 4 records are 9.998 s long, and 10 s are needed: --seconds 9.9 takes the first 9.9 s of all"),
        ([0.8] * 4, 0, 4, DEFAULT_SAMPLING,
         "4 of 4 records are 0.8 s long, and 10 s are needed: too short for any length that can be asked for"),
    ],
)  # fmt: skip
def test_where_most_are_too_short_it_is_said_what_uses_them(
    lengths: list[float], usable: int, listed: int, asked: Sampling, said: str
):
    found = find_short(lengths, usable, listed, asked)
    assert found is not None
    assert found.in_words() == said


@given(
    st.lists(st.integers(1, 12_000), min_size=1, max_size=40),
    st.sampled_from([100, 125, 250, 257, 360, 500, 1000]),
    st.sampled_from([50, 100, 125, 250, 1000]),
)
def test_the_length_that_is_offered_can_be_asked_for_and_nine_in_ten_records_have_it(
    samples: list[int], stored_at: int, fs: int
):
    lengths = [n / stored_at for n in samples]
    found = find_short(lengths, 0, len(lengths), Sampling(120, fs))
    assert found is not None
    if found.seconds is None:
        assert sorted(lengths)[len(lengths) // 10] < 1
    else:
        asked = Sampling(found.seconds, fs)
        reaching = sum(length >= asked.seconds for length in lengths)
        assert 10 * reaching >= 9 * len(lengths)
        assert found.usable == reaching


def test_where_most_are_long_enough_each_short_one_is_named_and_no_other_length_offered():
    assert find_short([7.0] * 3, 3, 6, DEFAULT_SAMPLING) is None
    assert find_short([], 0, 6, DEFAULT_SAMPLING) is None
    found = survey(Bedside(10, 7, 12))
    assert found.short is None
    assert [(one.record, one.problem) for one in found.problems if not one.usable] == [
        ("r1", "7 s long; 10 s are needed")
    ]


def test_a_set_of_short_records_is_refused_with_its_length(tmp_path: Path):
    said = "3 of 3 records are 7 s long, and 10 s are needed: --seconds 7 takes the first 7 s of all"
    with pytest.raises(CorpusError, match=said):
        prepare(Bedside(7, 7, 7), tmp_path / "bedside")
    assert list(tmp_path.iterdir()) == []
    found = survey(Bedside(7, 7, 7))
    assert found.short is not None
    assert (found.unusable, found.short.in_words()) == (3, said)


def test_short_records_are_counted_where_some_are_long_enough(tmp_path: Path):
    corpus, problems = prepare(Bedside(7, 12, 7, 8), tmp_path / "bedside")
    assert corpus.record_ids.tolist() == ["r1"]
    short = short_records(problems, len(corpus), 4, DEFAULT_SAMPLING)
    assert short is not None
    assert (short.records, short.shortest, short.longest, short.seconds, short.usable) == (3, 7.0, 8.0, 7.0, 4)
    with pytest.raises(TooManyBadError) as refused:
        prepare(Bedside(7, 12, 7, 8), tmp_path / "strict", max_bad=2)
    assert (refused.value.n_bad, refused.value.n_listed) == (3, 4)
    assert short_records(refused.value.problems, 1, 4, DEFAULT_SAMPLING) == short


def test_records_at_their_own_length_keep_every_value(tmp_path: Path):
    source = Bedside(7, 12, 7, 8)
    corpus, problems = prepare(source, tmp_path / "bedside-7s", sampling=Sampling(7))
    assert [(one.record, one.problem) for one in problems] == [
        ("r1", "12 s long: the first 7 s are used"), ("r3", "8 s long: the first 7 s are used")
    ]  # fmt: skip
    assert (corpus.contract.seconds, corpus.fs, corpus.signals.shape) == (7.0, 100.0, (4, 2, 700))
    for row, entry in enumerate(source.entries()):
        np.testing.assert_array_equal(corpus.signals[row], source.read(entry).signals[:, :700])
    corpus.verify()


def test_records_at_another_rate_are_resampled_to_it(tmp_path: Path):
    corpus, _ = prepare(Bedside(10, 10), tmp_path / "fast", sampling=Sampling(fs=250))
    assert (corpus.contract.seconds, corpus.fs, corpus.signals.shape) == (10.0, 250.0, (2, 2, 2500))
    slow, _ = prepare(Bedside(10, 10), tmp_path / "slow")
    assert corpus.content_hash != slow.content_hash
    tone = np.sin(2 * np.pi * 5 * np.arange(1000) / 100).astype(np.float32)

    class Tone(Bedside):
        def read(self, entry: Entry) -> Record:
            return Record(np.stack([tone, -tone]), 100.0, self.leads)

    fast, problems = prepare(Tone(10), tmp_path / "tone", sampling=Sampling(fs=400))
    expected = np.sin(2 * np.pi * 5 * np.arange(4000) / 400)
    assert np.abs(fast.signals[0, 0, 400:-400] - expected[400:-400]).max() < 0.01
    assert problems[0].problem == "sampled at 100 Hz: nothing above 50 Hz is in it"


def test_the_default_is_the_same_data_whether_it_is_asked_for_or_not(tmp_path: Path):
    corpora = [
        prepare(Bedside(10, 12), tmp_path / str(k), sampling=sampling)[0]
        for k, sampling in enumerate((DEFAULT_SAMPLING, Sampling.asked(10, 100), Sampling(9)))
    ]
    assert corpora[0].content_hash == corpora[1].content_hash != corpora[2].content_hash
    assert {name for name in corpora[0].manifest if name != "name"} == {
        name for name in corpora[2].manifest if name != "name"
    }


def test_a_corpus_of_short_records_travels(tmp_path: Path):
    corpus, _ = prepare(Bedside(7, 7, 7), tmp_path / "bedside-7s", sampling=Sampling(7, 250))
    (file,) = pack(corpus, tmp_path / "packed")
    assert unpack(file, tmp_path / "there").content_hash == corpus.content_hash


def test_a_tree_is_prepared_once_for_each_length_and_rate(ptbxl_tree: Path, tmp_path: Path):
    corpora = tmp_path / "corpora"
    state = identify_tree(ptbxl_tree)
    source = open_source(ptbxl_tree, state.reader)
    made, _ = prepare(source, corpora / "ptb-xl-7s", prepared_from=state, sampling=Sampling(7))
    assert open_directory(ptbxl_tree, "", corpora, seconds=7)[0].root == made.root
    ten, _ = open_directory(ptbxl_tree, "", corpora)
    assert (ten.name, ten.contract.seconds) == ("ptb-xl", 10.0)
    five, _ = open_directory(ptbxl_tree, "", corpora, seconds=5, fs=200)
    assert (five.name, five.contract.n_samples, five.fs) == ("ptb-xl-5s-at-200hz", 1000, 200.0)  # as many as ten's
    assert open_directory(ptbxl_tree, "", corpora)[0].root == ten.root
    np.testing.assert_array_equal(made.signals, ten.signals[:, :, :700])


def test_a_prepared_corpus_is_not_taken_for_another_length_or_rate(corpus: Corpus, tmp_path: Path):
    assert open_directory(corpus.root, "", tmp_path, seconds=10, fs=100)[0].root == corpus.root
    check_sampling(corpus, None, 100)
    said = "was prepared with 10 s at 100 Hz, and 7 s at 100 Hz are asked for"
    with pytest.raises(SamplingError, match=said):
        open_directory(corpus.root, "", tmp_path, seconds=7)
    with pytest.raises(SamplingError, match="and 10 s at 250 Hz are asked for"):
        check_sampling(corpus, None, 250)
