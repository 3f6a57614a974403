"""What a signal is made of, so that the records of a corpus and the input of a network can be compared.

How records were prepared (``engine.records.signal.Preparation``) is not part of it: Nguyen and Do (2025) fine-tune on
unscaled records of PTB what was pre-trained on scaled ones of another set. Nor are the mean and deviation of a training
set, which belong to a network's weights and are applied with them.
"""

import re
from dataclasses import dataclass, replace

from models.errors import ExitCode, UserError
from models.scaling import IN_WORDS, SCALINGS, Scaling

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


class ReadingError(UserError, ValueError):
    """Text that no way of reading records is written as."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class SignalContract:
    """Leads in their order, sampling frequency in hertz, and samples a lead of signals (records, leads, samples).

    A network may read records in crops of ``crop`` samples (None: as a whole), and scale them by what the training set
    was like (``set``) or each by itself (``models.crops``). Records have neither.
    """

    leads: tuple[str, ...]
    fs: float
    n_samples: int
    crop: int | None = None
    scaling: Scaling = "set"

    @property
    def seconds(self) -> float:
        """How long a record is."""
        return self.n_samples / self.fs

    @property
    def reads_any_length(self) -> bool:
        """Whether records may be of another length, as long as a crop fits into them."""
        return self.crop is not None

    def of_records(self, records: "SignalContract") -> "SignalContract":
        """Return how a network of this contract reads records: its own leads, rate, crop and scaling; their length.

        Records of another rate keep their number of seconds.
        """
        return replace(self, n_samples=round(records.seconds * self.fs))

    def unlike(self, records: "SignalContract") -> str | None:
        """Say why a network of this contract cannot take records, to follow "takes"; None where it can.

        It can where they have its leads, in whatever order and next to whatever others, its rate, and its length, or
        for a network that reads crops the length of one.
        """
        if missing := [lead for lead in self.leads if lead not in records.leads]:
            return f"{self._n_leads} ({', '.join(self.leads)}), of which these records lack {', '.join(missing)}"
        length = self.n_samples
        if self.crop is not None and self.fs == records.fs and records.n_samples >= self.crop:
            length = records.n_samples
        return replace(self, n_samples=length).mismatch(replace(records, leads=self.leads))

    def mismatch(self, other: "SignalContract") -> str | None:
        """Say what this one is and the other is not, to follow "takes" or "has"; None where they are the same.

        How a network reads them, in crops or scaled, is not compared.
        """
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
        signals = f"{self._n_leads} ({', '.join(self.leads)}) of {self.n_samples:,} samples at {self.fs:g} Hz"
        read = [] if self.crop is None else [f"read in crops of {self.crop / self.fs:g} s"]
        read += [] if self.scaling == "set" else [IN_WORDS[self.scaling]]
        return ", ".join([signals, *read])

    @property
    def _n_leads(self) -> str:
        return f"{len(self.leads)} lead{'s' if len(self.leads) > 1 else ''}"


_READING = re.compile(r"(?P<leads>\S+)(?: at (?P<fs>\d+) Hz)?(?:, crops of (?P<crop>\d+))?, scaled by (?P<scaling>\w+)")


@dataclass(frozen=True)
class Reading:
    """How a network reads records that are prepared otherwise: these leads of them, at this rate, in crops, scaled.

    ``fs`` is None where their own rate is its rate. As text it stands in a run's spec:
    ``aVL+aVF+V1 at 400 Hz, crops of 800, scaled by lead``.
    """

    leads: tuple[str, ...]
    fs: float | None
    crop: int | None
    scaling: Scaling

    def __str__(self) -> str:
        rate = "" if self.fs is None else f" at {self.fs:g} Hz"
        crops = "" if self.crop is None else f", crops of {self.crop}"
        return f"{'+'.join(self.leads)}{rate}{crops}, scaled by {self.scaling}"

    @classmethod
    def parse(cls, text: str) -> "Reading":
        """Return what ``str`` wrote. Raises ReadingError."""
        found = _READING.fullmatch(text)
        scaling = next((one for one in SCALINGS if found is not None and found["scaling"] == one), None)
        if found is None or scaling is None:
            raise ReadingError(f"{text!r} does not say how a network reads records")
        fs, crop = (None if found[name] is None else int(found[name]) for name in ("fs", "crop"))
        return cls(tuple(found["leads"].split("+")), fs, crop, scaling)

    @classmethod
    def of(cls, network: SignalContract, records: SignalContract) -> "Reading | None":
        """Return how a network reads records, None where that is as they are."""
        if network.of_records(records) == records:
            return None
        fs = None if network.fs == records.fs else network.fs
        return cls(network.leads, fs, network.crop, network.scaling)

    def of_records(self, records: SignalContract) -> SignalContract:
        """Return the contract of a network that reads such records so."""
        fs = self.fs or records.fs
        return SignalContract(self.leads, fs, round(records.seconds * fs), self.crop, self.scaling)
