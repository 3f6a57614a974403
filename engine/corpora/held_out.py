"""Which records of a corpus are kept for the test: by which rule, with which seed, and who stays together.

The same records are kept by every command on a corpus, whatever the task, the labels picked of it and the network, so
that what one command looked at is never what another tests on.
"""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus
from engine.corpora.splits import split_validation
from engine.seeds import stable_seed
from models.errors import ExitCode, UserError

TEST_FRACTION = 0.2
_MOST_FOLDS = 20  # of which some are the test: shares are met to a twentieth or less
_FEWEST_GROUPS = 3  # to train, to validate and to test
_MOST_GROUPS = 5_000  # beyond them chance gives equal shares, and the search for them takes long


class FractionError(UserError, ValueError):
    """A share that cannot be kept for the test."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Division:
    """How test records are asked for: a ``fraction`` of the records, drawn with ``seed``; where both are None the
    publisher's, if there are such, else a fifth. Raises FractionError.
    """

    fraction: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0.05 <= self.fraction <= 0.5:
            raise FractionError(f"a test share of {self.fraction:g} is asked for: give one from 0.05 to 0.5")


@dataclass(frozen=True)
class HeldOut:
    """The test records of a corpus (records,), and in ``words`` which these are; ``rule`` names how they were chosen.

    ``seed`` is what they were drawn with, None where their publisher chose them; ``test_sha256`` is a hash of their
    names.
    """

    test: NDArray[np.bool_]
    words: str
    rule: str
    seed: int | None
    test_sha256: str

    def as_dict(self) -> dict[str, object]:
        """Return what a checkpoint keeps of it."""
        share = round(float(self.test.mean()), 4)
        return {"rule": self.rule, "seed": self.seed, "test_share": share, "test_sha256": self.test_sha256}


PUBLISHED, STRATIFIED, BY_CHANCE = "publisher's fold", "equal label shares, whole patients", "chance, whole patients"


def hold_out(corpus: Corpus, asked: Division | None = None) -> HeldOut:
    """Return which records of a corpus are kept for the test.

    The publisher's last fold where every record has one (-1: it has none) and no patient is in it and in another (as
    in PTB-XL, whose fold 10 is its test set), unless a share or a seed is asked for; else a fifth of the records, or
    the share, whole patients, and records of equal signals on one side. Raises ValueError for a single patient.
    """
    asked, folds, patients = asked or Division(), corpus.folds, corpus.patients
    last = folds.max(initial=-1)
    test = folds == last
    is_published = (folds >= 0).all() and not test.all() and not np.isin(patients[test], patients[~test]).any()
    if is_published and asked == Division():
        words = f"fold {last} of the publisher's {len(np.unique(folds))}"
        return HeldOut(test, words, PUBLISHED, None, _hash_names(corpus, test))
    seed = asked.seed or 0
    test, rule = draw_test(together(corpus), corpus.labels, asked.fraction or TEST_FRACTION, seed)
    how = "with equal shares of the labels" if rule == STRATIFIED else "by chance"
    people = len(np.unique(patients))
    what = "patients" if people < len(patients) else "records"  # that no two are of one patient may only be unknown
    counted = f"{len(np.unique(patients[test]))} of {people} {what}"
    return HeldOut(test, f"{counted}, drawn {how}, seed {seed}", rule, seed, _hash_names(corpus, test))


def _hash_names(corpus: Corpus, test: NDArray[np.bool_]) -> str:
    return hashlib.sha256("\n".join(sorted(map(str, corpus.record_ids[test]))).encode()).hexdigest()


def draw_test(
    groups: NDArray[np.int64], labels: NDArray[np.uint8], fraction: float, seed: int
) -> tuple[NDArray[np.bool_], str]:
    """Return which records (records,) are drawn for a test, whole ``groups``, and by which rule.

    Each side gets about the same share of every label of ``labels`` 0/1 (records, labels), by scikit-learn's
    ``StratifiedGroupKFold`` on the rarest label that a record has; by chance alone where groups are very many, or fewer
    than it takes. Raises ValueError when there is but one group.
    """
    share = Fraction(fraction).limit_denominator(_MOST_FOLDS)
    fixed, n_groups = stable_seed("held out", *([seed] if seed else [])), len(np.unique(groups))
    test = np.zeros(len(groups), np.bool_)
    if not share.denominator <= n_groups <= _MOST_GROUPS:
        test[split_validation(groups, fraction, fixed)[1]] = True
        return test, BY_CHANCE
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=fixed % 2**32)
    divided = folds.split(groups, _strata(labels, share.denominator), groups)
    for _, chosen in islice(divided, share.numerator):
        test[chosen] = True
    return test, STRATIFIED


def _strata(labels: NDArray[np.uint8], n_folds: int) -> NDArray[np.int64]:
    """Return for each record the rarest of its labels that every fold can have; the others are one stratum."""
    counts = labels.sum(axis=0, dtype=np.int64)
    strata = np.zeros(len(labels), np.int64)
    for label in sorted(np.flatnonzero(counts >= n_folds), key=lambda label: -counts[label]):
        strata[labels[:, label] > 0] = label + 1  # a rarer one goes before
    kinds, members = np.unique(strata, return_counts=True)
    strata[np.isin(strata, kinds[members < n_folds])] = kinds[members.argmax()]
    return strata


def together(corpus: Corpus) -> NDArray[np.int64]:
    """Return a number for each record (records,), equal where the patient is the same or the signals are another's.

    A publisher's mistake, one record under two patients, would else show a network in training what it is tested on.
    Patients alone are kept together where there would be fewer than three numbers otherwise.
    """
    owners = np.unique(corpus.patients, return_inverse=True)[1].astype(np.int64)
    pairs = [(owners[group[0]], owners[row]) for group in equal_groups(corpus) for row in group[1:]]
    if not pairs:
        return owners
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, (one, other) = int(owners.max()) + 1, np.array(pairs).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(n, n))
    count, joined = connected_components(graph, directed=False)
    return owners if count < _FEWEST_GROUPS else np.asarray(joined, np.int64)[owners]


def equal_groups(corpus: Corpus) -> list[list[int]]:
    """Return groups of records with equal signals, as rows; none where an older version prepared the corpus."""
    groups: list[list[int]] = corpus.manifest.get("remarks", {}).get("equal_signals", [])
    return groups
