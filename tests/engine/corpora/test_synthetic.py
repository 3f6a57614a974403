import pickle
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, CorpusError, prepare
from engine.corpora.synthetic import DIAGNOSES, NAME, SHAPES, Synthetic, prepared_synthetic
from engine.corpora.synthetic_waves import WAVES, Hearts, draw_signals
from engine.evaluation.metrics import auroc_per_class

ONE, TWO, THREE, AVR, AVL, AVF, V1, V5 = 0, 1, 2, 3, 4, 5, 6, 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 600)


def hearts(n: int, **severities: float) -> Hearts:
    """Hearts that are all alike but for their place in time, with the given severities."""
    zeros = dict.fromkeys(
        ("irregular", "wide", "tall", "inferior", "premature", "inverted", "low", "delayed"), np.zeros(n)
    )
    given = {name: np.full(n, value) for name, value in severities.items()}
    n_waves = len(WAVES)
    return Hearts(
        gain=np.ones((n, n_waves)), widths=np.ones((n, n_waves)), turns=np.zeros((n, 2)), leads=np.ones((n, 8)),
        rate=np.full(n, 60.0), **(zeros | given),
    )  # fmt: skip


def draw(n: int = 8, **severities: float):
    return draw_signals(hearts(n, **severities), np.random.default_rng(1)).astype(np.float64)


def test_every_record_is_usable_and_without_a_remark(tmp_path: Path):
    corpus, problems = prepare(Synthetic(300), tmp_path / "made")
    assert problems == []
    assert corpus.signals.shape == (300, 12, 1000)


def test_the_same_seed_gives_the_same_records_in_any_order_and_process():
    source, again = Synthetic(600, seed=4), pickle.loads(pickle.dumps(Synthetic(600, seed=4)))  # noqa: S301  # our own
    assert source.entries() == again.entries()
    for entry in (source.entries()[599], source.entries()[3], source.entries()[300]):
        np.testing.assert_array_equal(source.read(entry).signals, again.read(entry).signals)
    other = Synthetic(600, seed=5)
    assert not np.array_equal(source.read(source.entries()[3]).signals, other.read(other.entries()[3]).signals)


def test_a_larger_source_begins_with_a_smaller_one():
    small, large = Synthetic(40), Synthetic(700)
    assert large.entries()[:40] == small.entries()
    np.testing.assert_array_equal(small.read(small.entries()[39]).signals, large.read(large.entries()[39]).signals)


def test_limb_leads_follow_from_one_and_two_exactly(made: Corpus):
    units = np.asarray(made.signals, np.float64) * 1000  # microvolts: whole numbers in I and II
    one, two = units[:, ONE].round(), units[:, TWO].round()
    expected = {THREE: two - one, AVR: -(one + two) / 2, AVL: one - two / 2, AVF: two - one / 2}
    for lead, voltage in expected.items():
        np.testing.assert_allclose(units[:, lead], voltage, atol=1e-3)


def test_people_have_several_records_and_one_fold(made: Corpus):
    assert len(np.unique(made.patients)) < len(made)
    assert set(made.folds.tolist()) == set(range(1, 11))
    for patient in np.unique(made.patients):
        assert len(np.unique(made.folds[made.patients == patient])) == 1


def test_the_tasks_share_no_label_and_the_first_is_the_diagnosis(made: Corpus):
    assert made.tasks == ("diagnosis", "morphology")
    diagnosis, morphology = made.task(""), made.task("morphology")
    assert (diagnosis.name, diagnosis.classes, morphology.classes) == ("synthetic/diagnosis", DIAGNOSES, SHAPES)
    for task in (diagnosis, morphology):
        share = task.labels.mean(axis=0)
        assert (share > 0.08).all()
        assert (share < 0.6).all()
        assert "no clinical meaning" in made.describe_task(task.name.split("/")[1])
    normal = diagnosis.labels[:, 0].astype(bool)
    assert not diagnosis.labels[normal, 1:].any()
    assert diagnosis.labels[~normal, 1:].any(axis=1).all()
    assert (diagnosis.labels.sum(axis=1) > 1).any()


def test_what_is_drawn_shows_in_the_signal():
    plain = draw()
    assert np.ptp(draw(tall=1.0)[:, V5], axis=1).mean() > 1.5 * np.ptp(plain[:, V5], axis=1).mean()
    assert np.ptp(draw(low=1.0), axis=2).mean() < 0.6 * np.ptp(plain, axis=2).mean()
    assert draw(inferior=1.0)[:, AVF].min() < 2 * plain[:, AVF].min()
    steep, slow = (np.abs(np.diff(signals[:, V5], axis=1)).max(axis=1).mean() for signals in (plain, draw(wide=1.0)))
    assert slow < 0.7 * steep
    assert draw(premature=1.0)[:, V1].max() > 2 * plain[:, V1].max()
    assert draw(inverted=1.0)[:, TWO].mean() < plain[:, TWO].mean()


def beat_intervals(signal) -> np.ndarray:
    """Seconds between the maxima of a clean lead that exceed half of its largest one."""
    high = np.flatnonzero(signal > 0.5 * signal.max())
    starts = high[np.flatnonzero(np.diff(high, prepend=-100) > 20)]
    return np.diff(starts) / 100


def test_an_irregular_rhythm_is_irregular():
    spread = [np.std([beat_intervals(s).std() for s in draw(irregular=v)[:, V5]]) for v in (0.0, 1.0)]
    means = [np.mean([beat_intervals(s).std() for s in draw(irregular=v)[:, V5]]) for v in (0.0, 1.0)]
    assert means[0] < 0.05 < 0.1 < means[1]
    assert spread[0] < spread[1]


def test_the_rate_is_the_one_that_was_asked_for():
    assert np.mean([beat_intervals(signal).mean() for signal in draw()[:, V5]]) == pytest.approx(1.0, abs=0.05)


def test_no_class_can_be_read_off_the_overall_voltage(made: Corpus):
    task = made.task("diagnosis")
    size = np.repeat(np.asarray(made.signals).std(axis=(1, 2))[task.rows, None], len(task.classes), axis=1)
    apart = auroc_per_class(task.labels, size)
    assert (np.maximum(apart, 1 - apart) < 0.9).all()


def test_the_corpus_is_made_once(tmp_path: Path):
    first = prepared_synthetic(tmp_path, 30)
    stamp = (first.root / "signals.npy").stat().st_mtime_ns
    assert prepared_synthetic(tmp_path, 30).content_hash == first.content_hash
    assert (tmp_path / NAME / "signals.npy").stat().st_mtime_ns == stamp
    with pytest.raises(CorpusError, match="remove it"):
        prepared_synthetic(tmp_path, 31)


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Synthetic(0)
