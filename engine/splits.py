"""Who is in the training data: subsets of n records and validation shares, always whole patients apart.

Every draw takes a seed that depends on what is compared and not on who takes part, so that both arms and all networks
of a comparison get the same records.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray


def stable_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on the parts' text alone, the same on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


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


def _by_random_patient(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    _, owner = np.unique(patients, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(owner.max() + 1)
    return np.argsort(rank[owner], kind="stable")
