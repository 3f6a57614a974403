"""What a signal is made of, so that the records of a corpus and the input of a network can be compared.

How records were prepared (``engine.records.signal.Preparation``) is not part of it: Nguyen and Do (2025) fine-tune on
unscaled records of PTB what was pre-trained on scaled ones of another set. Nor is the scaling by a training set's mean
and deviation, which belongs to a network's weights and is applied with them.
"""

from dataclasses import dataclass

from models.errors import ExitCode, UserError

_SECONDS = (1.0, 120.0)  # the shortest and the longest record that may be asked for
_FS = (50.0, 1000.0)  # the lowest and the highest rate, in hertz
_WHOLE = 1e-6  # of a sample: what arithmetic in floating point may leave of a whole number


class SamplingError(UserError, ValueError):
    """A length or a rate that no corpus can have, or that a prepared one does not have."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Sampling:
    """What of every record is used, the first ``seconds`` of it, and the rate in hertz that it is brought to.

    Raises SamplingError for a length that is not within 1 to 120 s, a rate that is not a whole number within 50 to
    1000 Hz, and for both where they do not make a whole number of samples.
    """

    seconds: float = 10.0
    fs: float = 100.0

    def __post_init__(self) -> None:
        (shortest, longest), (lowest, highest) = _SECONDS, _FS
        if not shortest <= self.seconds <= longest:
            raise SamplingError(f"records of {self.seconds:g} s are asked for: give {shortest:g} to {longest:g} s")
        if not (lowest <= self.fs <= highest and self.fs == round(self.fs)):
            raise SamplingError(f"{self.fs:g} Hz are asked for: give a whole number, {lowest:g} to {highest:g} Hz")
        if not self.fits(self.seconds):
            raise SamplingError(
                f"{self.seconds:g} s at {self.fs:g} Hz are {self.seconds * self.fs:g} samples: give seconds that make "
                "a whole number of them"
            )

    @classmethod
    def asked(cls, seconds: float | None, fs: float | None) -> "Sampling":
        """Return what is asked for; None is the default's. Raises SamplingError."""
        return cls(
            *(float(given if asked is None else asked) for asked, given in ((seconds, cls.seconds), (fs, cls.fs)))
        )

    @property
    def n_samples(self) -> int:
        """Samples of a lead."""
        return round(self.seconds * self.fs)

    @property
    def suffix(self) -> str:
        """What the name of such a corpus ends in: ``-7s``, ``-at-250hz``, ``-7s-at-250hz``, or nothing."""
        length = f"-{self.seconds:g}s" if self.seconds != Sampling.seconds else ""
        return length + (f"-at-{self.fs:g}hz" if self.fs != Sampling.fs else "")

    def fits(self, seconds: float) -> bool:
        """Return whether that long a record may be asked for, and has a whole number of samples."""
        n_samples = seconds * self.fs
        return _SECONDS[0] <= seconds <= _SECONDS[1] and abs(n_samples - round(n_samples)) < _WHOLE

    def in_words(self) -> str:
        """Return it in words."""
        return f"{self.seconds:g} s at {self.fs:g} Hz"


DEFAULT_SAMPLING = Sampling()


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
        if len(self.leads) != len(other.leads):
            return f"{self._n_leads} of {self.n_samples} samples, not {len(other.leads)} of {other.n_samples}"
        if self.n_samples != other.n_samples:
            return f"records of {self.seconds:g} s, not of {other.seconds:g} s"
        return None

    def in_words(self) -> str:
        """Return the whole of it in words."""
        return f"{self._n_leads} ({', '.join(self.leads)}) of {self.n_samples:,} samples at {self.fs:g} Hz"

    @property
    def _n_leads(self) -> str:
        return f"{len(self.leads)} lead{'s' if len(self.leads) > 1 else ''}"
