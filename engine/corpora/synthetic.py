"""Synthetic 12-lead records with known truth: a corpus that needs no data, for first steps, tests and smoke studies.

No person is behind any record, and no score on them says anything about patients: classes are named by what was drawn
into the signal ("wide QRS"), not by a disease. Each label's strength varies from hardly visible to plain, people differ
in axis, voltage, rate and the shape of their waves, some have several records, and a record may have several labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus, CorpusError, prepare
from engine.corpora.synthetic_waves import FS, WAVES, Hearts, draw_signals
from engine.records.record import LEADS, Record
from engine.sources import Entry, TaskDefinition

NAME = "synthetic"
N_RECORDS = 2000
_BLOCK = 256  # records that are drawn together: what engine.corpora.reading gives a worker at a time
_FOLDS = 10
DIAGNOSES = ("normal", "irregular rhythm", "wide QRS", "tall QRS", "inferior Q")
SHAPES = ("premature beats", "inverted T", "low voltage", "long PR")
# How often a person has each, and whether all their records have it; "normal" is none of DIAGNOSES.
_HOW_OFTEN = {
    "irregular rhythm": 0.20, "wide QRS": 0.18, "tall QRS": 0.20, "inferior Q": 0.20,
    "premature beats": 0.20, "inverted T": 0.20, "low voltage": 0.15, "long PR": 0.20,
}  # fmt: skip
_COMES_AND_GOES = ("irregular rhythm", "premature beats")


class Synthetic:
    """``n_records`` synthetic records, the same for the same ``seed``; a larger source begins with a smaller one."""

    name = NAME
    licence = "none needed: made by a program"
    url = ""
    citation = "synthetic records of ecgadvise, after McSharry et al., IEEE Trans Biomed Eng 50:289 (2003)"
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS
    labels: tuple[str, ...] = (*DIAGNOSES, *SHAPES)
    tasks: Mapping[str, TaskDefinition] = {
        "diagnosis": TaskDefinition(
            "synthetic records, no clinical meaning: what was drawn into rhythm and QRS",
            {name: [name] for name in DIAGNOSES},
            labelled_only=False,
        ),
        "morphology": TaskDefinition(
            "synthetic records, no clinical meaning: other traits, none of which is a class of diagnosis",
            {name: [name] for name in SHAPES},
            labelled_only=False,
        ),
    }

    def __init__(self, n_records: int = N_RECORDS, seed: int = 0) -> None:
        if n_records < 1:
            raise ValueError(f"{n_records} records: at least 1 is needed")
        self.n_records = n_records
        self.seed = seed
        self.version = f"1, {n_records} records, seed {seed}"

    def entries(self) -> list[Entry]:
        """List the records; the path of each is its name, for there is no file."""
        n_blocks = -(-self.n_records // _BLOCK)
        return [entry for block in range(n_blocks) for entry in _draw_people(self.seed, block).entries()][
            : self.n_records
        ]

    def read(self, entry: Entry) -> Record:
        """Draw one record; its neighbours are drawn with it and kept."""
        block, row = divmod(int(entry.record_id), _BLOCK)
        return Record(_draw_block(self.seed, block)[row], FS, LEADS)


def prepared_synthetic(folder: Path, n_records: int = N_RECORDS) -> Corpus:
    """Return the corpus ``synthetic`` in a folder of corpora; it is made first where it is not there.

    Raises CorpusError when what has that name is something else, or cannot be written.
    """
    source, target = Synthetic(n_records), folder / NAME
    if not target.exists():
        return prepare(source, target)[0]
    corpus = Corpus(target)
    if (found := corpus.manifest["source"]["version"]) != source.version or corpus.manifest["source"]["name"] != NAME:
        raise CorpusError(f"{target} holds other records ({found}), not {source.version}; remove it to have it made")
    return corpus


@dataclass(frozen=True)
class _People:
    """A block of records: whose they are, and the strength (records, labels but "normal"), 0 where absent."""

    block: int
    owner: NDArray[np.int64]
    fold: NDArray[np.int64]
    age: NDArray[np.int64]
    female: NDArray[np.bool_]
    strength: Mapping[str, NDArray[np.float64]]

    def entries(self) -> list[Entry]:
        """List the block's records."""
        return [self._entry(row) for row in range(len(self.owner))]

    def _entry(self, row: int) -> Entry:
        number, owner = self.block * _BLOCK + row, self.owner[row]
        found = {name for name, strength in self.strength.items() if strength[row] > 0}
        labels = frozenset(found if found & set(DIAGNOSES) else {"normal", *found})
        sex = "female" if self.female[owner] else "male"
        patient = f"{self.block}-{owner}"
        age = float(self.age[owner])
        return Entry(f"{number:06d}", Path(f"{number:06d}"), patient, labels, int(self.fold[owner]), age, sex)


def _draw_people(seed: int, block: int) -> _People:
    rng = np.random.default_rng([seed, block, 0])
    owner = np.repeat(np.arange(_BLOCK), rng.choice([1, 2, 3], _BLOCK, p=[0.6, 0.25, 0.15]))[:_BLOCK]
    fold = rng.permutation(np.arange(owner[-1] + 1) % _FOLDS) + 1
    age = np.clip(rng.normal(60, 16, _BLOCK), 18, 95).astype(np.int64)
    strength: dict[str, NDArray[np.float64]] = {}
    for name, share in _HOW_OFTEN.items():
        has = (rng.random(_BLOCK) < share)[owner]
        if name in _COMES_AND_GOES:
            has = rng.random(_BLOCK) < np.where(has, 0.8, share / 4)
        how_strong = rng.uniform(0.25, 1, _BLOCK)[owner] + rng.normal(0, 0.05, _BLOCK)
        strength[name] = np.where(has, np.clip(how_strong, 0.2, 1), 0.0)
    strength["low voltage"] *= strength["tall QRS"] == 0  # they would cancel
    strength["long PR"] *= strength["irregular rhythm"] == 0  # without P waves there is no PR interval
    return _People(block, owner, fold, age, rng.random(_BLOCK) < 0.5, strength)


@lru_cache(maxsize=2)
def _draw_block(seed: int, block: int) -> NDArray[np.float32]:
    """Return the samples (256, 12, 1000) of a block of records."""
    people, rng = _draw_people(seed, block), np.random.default_rng([seed, block, 1])
    owner, n_waves, has = people.owner, len(WAVES), people.strength
    voltage = np.exp(rng.normal(0, 0.22, (_BLOCK, 1)) + rng.normal(0, 0.15, (_BLOCK, n_waves)))[owner]
    rate = rng.normal(72, 11, _BLOCK)[owner] + rng.normal(0, 5, _BLOCK) + 12 * (has["irregular rhythm"] > 0)
    hearts = Hearts(
        gain=voltage * np.exp(rng.normal(0, 0.05, (_BLOCK, n_waves))),
        widths=np.exp(rng.normal(0, 0.1, (_BLOCK, n_waves)))[owner],
        turns=np.radians([25.0, 15.0]) * rng.standard_normal((_BLOCK, 2))[owner],
        leads=np.exp(rng.normal(0, 0.1, (_BLOCK, 8))),
        rate=np.clip(rate, 45, 130),
        irregular=has["irregular rhythm"],
        wide=has["wide QRS"],
        tall=has["tall QRS"],
        inferior=has["inferior Q"],
        premature=has["premature beats"],
        inverted=has["inverted T"],
        low=has["low voltage"],
        delayed=has["long PR"],
    )
    return draw_signals(hearts, rng)
