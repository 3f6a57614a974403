"""``ecgadvise.load_model``: probabilities from an exported model for recordings in memory, without torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from advisor.interface.records import log
from engine.deploy.inference import Listed, open_model, predict_records
from engine.deploy.inference import Model as Session
from engine.deploy.model_facts import ModelFacts
from engine.records.lead_names import lead_names
from engine.records.record import Record, RecordError


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
        named = lead_names(tuple(leads))
        listed = [
            Listed(f"recording {number}", partial(Record, recording, float(fs), named))
            for number, recording in enumerate(recordings)
        ]
        rows, notes = [], Counter[str]()
        for one in predict_records(self.session, listed):
            if one.probabilities is None:
                raise RecordError(f"{one.record}: {one.problem}")
            rows.append(one.probabilities)
            notes.update(one.notes)
        for note, n in notes.items():
            log.warning("%s recording%s: %s", f"{n:,}", "s" * (n != 1), note)
        return np.array(rows, np.float32).reshape(len(rows), len(self.classes))

    def __repr__(self) -> str:
        facts = self.facts
        return f"<Model {self.path.name}: {facts.arch} for {facts.task}, {len(self.classes)} classes>"


def load_model(path: str | PathLike[str]) -> Model:
    """Open the ONNX file that ``ecgadvise export`` wrote. Raises ModelError."""
    return Model(Path(path), open_model(Path(path)))
