"""``ecgadvise.load_model``: probabilities from an exported model for recordings in memory, without torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from advisor.interface.records import log
from engine.deploy.inference import BATCH_SIZE, open_model, prepare
from engine.deploy.inference import Model as Session
from engine.deploy.model_facts import ModelFacts
from engine.records.record import Record, RecordError, lead_name
from engine.records.signal import Preparation


@dataclass(frozen=True, repr=False)
class Model:
    """An opened model file."""

    path: Path
    session: Session

    @property
    def facts(self) -> ModelFacts:
        """What the file says about the model."""
        return self.session.facts

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the columns of ``predict``."""
        return self.facts.classes

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability of each class from which on it is taken to be present."""
        return self.facts.thresholds

    def predict(self, signals: ArrayLike, fs: float, leads: Sequence[str]) -> NDArray[np.float32]:
        """Return probabilities (records, classes) of recordings (records, leads, samples), or of one (leads, samples).

        ``signals`` are in millivolt, ``fs`` is their rate in hertz, ``leads`` names their leads in order; each is
        prepared as in training, and what is odd about it is a warning of the logger ``ecgadvise``. Raises ValueError
        for another shape, and RecordError naming the first recording that cannot be used.
        """
        recordings = np.asarray(signals, np.float32)
        recordings = recordings[None] if recordings.ndim == 2 else recordings
        if recordings.ndim != 3 or recordings.shape[1] != len(leads):
            raise ValueError(
                f"signals have shape {np.shape(signals)}: with {len(leads)} leads give (records, {len(leads)}, "
                f"samples), or ({len(leads)}, samples) of one recording"
            )
        notes: Counter[str] = Counter()
        batches = list(self._batches(recordings, float(fs), tuple(map(lead_name, leads)), notes))
        for note, n in notes.items():
            log.warning("%s recording%s: %s", f"{n:,}", "s" * (n != 1), note)
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *batches])

    def _batches(
        self, recordings: NDArray[np.float32], fs: float, leads: tuple[str, ...], notes: Counter[str]
    ) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(recordings), BATCH_SIZE):
            prepared = [
                self._prepare(start + k, Record(recording, fs, leads))
                for k, recording in enumerate(recordings[start : start + BATCH_SIZE])
            ]
            notes.update(note for one in prepared for note in one.notes)
            probabilities = self.session.probabilities(np.stack([one.signals for one in prepared]))
            if (bad := np.flatnonzero(~np.isfinite(probabilities).all(axis=1))).size:
                raise RecordError(f"recording {start + bad[0]}: the model gives no finite probability for it")
            yield probabilities

    def _prepare(self, number: int, record: Record) -> Record:
        facts = self.facts
        try:
            return prepare(record, facts.leads, facts.fs, facts.n_samples, Preparation(**facts.preparation))
        except RecordError as error:
            raise RecordError(f"recording {number}: {error}") from None

    def __repr__(self) -> str:
        facts = self.facts
        return f"<Model {self.path.name}: {facts.arch} for {facts.task}, {len(self.classes)} classes>"


def load_model(path: str | PathLike[str]) -> Model:
    """Open the ONNX file that ``ecgadvise export`` wrote. Raises ModelError."""
    return Model(Path(path), open_model(Path(path)))
