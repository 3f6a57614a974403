"""What a signal is made of, so that the records of a corpus and the input of a network can be compared.

How records were prepared (``engine.records.signal.Preparation``) is not part of it: Nguyen and Do (2025) fine-tune on
unscaled records of PTB what was pre-trained on scaled ones of another set. Nor is the scaling by a training set's mean
and deviation, which belongs to a network's weights and is applied with them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SignalContract:
    """Leads in their order, sampling frequency in hertz, and samples a lead of signals (records, leads, samples)."""

    leads: tuple[str, ...]
    fs: float
    n_samples: int

    @property
    def seconds(self) -> float:
        """How long a record is."""
        return self.n_samples / self.fs

    def mismatch(self, other: "SignalContract") -> str | None:
        """Say what this one is and the other is not, to follow "takes" or "has"; None where they are the same."""
        if len(self.leads) == len(other.leads) and self.leads != other.leads:
            return f"the leads {', '.join(self.leads)}, in this order, not {', '.join(other.leads)}"
        if self.fs != other.fs:
            return f"signals at {self.fs:g} Hz, not at {other.fs:g} Hz"
        if (len(self.leads), self.n_samples) != (len(other.leads), other.n_samples):
            return f"{self._n_leads} of {self.n_samples} samples, not {len(other.leads)} of {other.n_samples}"
        return None

    def in_words(self) -> str:
        """Return the whole of it in words."""
        return f"{self._n_leads} ({', '.join(self.leads)}) of {self.n_samples:,} samples at {self.fs:g} Hz"

    @property
    def _n_leads(self) -> str:
        return f"{len(self.leads)} lead{'s' if len(self.leads) > 1 else ''}"
