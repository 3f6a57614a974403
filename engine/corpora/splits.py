"""Who is in the training data: test records, subsets of n records and validation shares, whole patients apart.

Every draw takes a seed that depends on what is compared and not on who takes part, so that both arms and all networks
of a comparison get the same records.
"""

import numpy as np
from numpy.typing import NDArray

from engine.seeds import stable_seed

TEST_FRACTION = 0.2


def hold_out(patients: NDArray[np.int64], folds: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str]:
    """Return which records of a corpus (records,) are kept for the test, and in words which these are.

    The publisher's last fold where every record has one (-1: it has none) and no patient is in it and in another (as
    in PTB-XL, whose fold 10 is its test set); else about a fifth of the records, whole patients, the same ones for
    every task, seed and network. Raises ValueError when there is but one patient.
    """
    last = folds.max(initial=-1)
    test = folds == last
    if (folds >= 0).all() and not test.all() and not np.isin(patients[test], patients[~test]).any():
        return test, f"fold {last} of the publisher's {len(np.unique(folds))}"
    _, chosen = split_validation(patients, TEST_FRACTION, stable_seed("held out"))
    test = np.zeros(len(patients), np.bool_)
    test[chosen] = True
    people = len(np.unique(patients))
    counted = "patients" if people < len(patients) else "records"  # that no two are of one patient may only be unknown
    return test, f"{len(np.unique(patients[test]))} of {people} {counted}, drawn by chance"


def draw_records(patients: NDArray[np.int64], n_records: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of exactly ``n_records`` records, patient after patient in random order.

    ``patients`` (records,) names each record's patient. Only the last patient drawn may miss some records. Raises
    ValueError when there are fewer than ``n_records``.
    """
    if not 0 < n_records <= len(patients):
        raise ValueError(f"cannot draw {n_records} records out of {len(patients)}")
    return _by_random_patient(patients, seed)[:n_records]


def split_validation(
    patients: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions (training, validation): about ``fraction`` of the records, whole patients, for validation.

    Raises ValueError when either side would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the validation share is {fraction:g}: it must lie between 0 and 1")
    order = _by_random_patient(patients, seed)
    wanted = max(1, round(fraction * len(order)))
    last = patients[order[wanted - 1]]
    validation = order[: np.flatnonzero(patients[order] == last).max() + 1]
    training = np.setdiff1d(order, validation)
    if not len(training):
        raise ValueError(f"{len(order)} records of {len(np.unique(patients))} patients leave none to train on")
    return training, np.sort(validation)


def make_folds(patients: NDArray[np.int64], n_folds: int = 10) -> NDArray[np.int64]:
    """Return folds 1 to ``n_folds`` (records,) of about equal size for records that their publisher gave none.

    Whole patients lie in a fold. The folds depend on ``patients`` alone: changing how they are made changes what the
    stored runs of such a corpus were trained and tested on.
    """
    order = _by_random_patient(patients, stable_seed("folds", n_folds))
    fold_of_position = np.arange(len(order)) * n_folds // len(order) + 1
    _, first, owner = np.unique(patients[order], return_index=True, return_inverse=True)
    folds = np.empty(len(order), np.int64)
    folds[order] = fold_of_position[first][owner]  # a patient on a border goes where the first of his records lies
    return folds


def _by_random_patient(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    _, owner = np.unique(patients, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(owner.max() + 1)
    return np.argsort(rank[owner], kind="stable")


def has_both_outcomes(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each class whether 0 and 1 both occur."""
    return np.asarray((labels > 0).any(axis=0) & (labels == 0).any(axis=0), np.bool_)
