"""What a file of a vendor's or a standard's format holds, before its samples are decoded."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from engine.records.record import Record, RecordError, describe_faults
from engine.records.signal import derivable

MAX_FILE_BYTES = 200_000_000
_MAX_VALUES = 200_000_000  # a file may ask for any amount of memory
_FS = (10.0, 100_000.0)  # hertz; outside it is no ECG
_IMPOSSIBLE_MILLIVOLT = 100.0  # from peak to peak: electrodes drift within some 10 mV, a wrong decoding leaves that
_SEXES = {
    **dict.fromkeys(("f", "female", "woman", "weiblich", "frau", "femme", "mujer", "femenino", "feminino"), "female"),
    **dict.fromkeys(("m", "male", "man", "m\u00e4nnlich", "mann", "homme", "hombre", "masculino"), "male"),
}
_LARGE_BEAT = 6.5  # millivolt; of 963 records of PTB-XL, LUDB and Brugada-HUCA two have larger ones
_OLDEST = 130  # years
_PER_YEAR = {  # units of an age: English, UCUM, and the letters of DICOM
    unit: per_year
    for units, per_year in (
        ("y yr yrs a year years", 1.0),
        ("m mo mon mos mth mths month months", 12.0),
        ("w wk wks week weeks", 365.25 / 7),
        ("d day days", 365.25),
        ("h hr hrs hour hours", 365.25 * 24),
        ("min mins minute minutes", 365.25 * 24 * 60),
    )
    for unit in units.split()
}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)\s*([A-Za-z]*)\.?")
_TIMESTAMP = re.compile(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)(?:(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?(?:[.+-].*)?")
_NOBODY = re.compile(
    r"[\W_]*|0+|9{4,}|([xX*?#])\1*|n/?a|none|null|nan|unknown|unspecified|anonym[^\W\d_]*|anon|deidentified|de-identified|test|"
    r"patient|removed|redacted|private|not available|no ?id",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Person:
    """Whom a file says its recording is of.

    ``number`` tells patients apart, or is None; ``name_and_birth`` does so where there is no number; ``identity`` are
    all texts that name the person (numbers, names, a birth date as it is written). None of them is ever shown or
    written: they leave this program as a keyed hash at most. ``age`` is in years, ``sex`` "female" or "male".
    """

    number: str | None = field(default=None, repr=False)
    identity: tuple[str, ...] = field(default=(), repr=False)
    age: float | None = None
    sex: str | None = None
    name_and_birth: str | None = field(default=None, repr=False)


NOBODY = Person()


@dataclass(frozen=True)
class Contents:
    """A recording's leads, its rate in hertz, its length in samples, what else its file says, and how it is decoded.

    ``decode`` gives float (leads, samples) in millivolt, a missing sample as NaN, and raises RecordError. ``unit`` is
    that of the file. Of the samples only the first ``n_used`` are ECG where that is given: a calibration follows.
    ``faults`` are as those of ``Record``.
    """

    leads: tuple[str, ...]
    fs: float
    n_samples: int
    unit: str
    decode: Callable[[], NDArray[np.floating]]
    person: Person = NOBODY
    recorded: datetime | None = field(default=None, repr=False)
    n_used: int | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.leads or not self.n_samples:
            raise RecordError("holds no samples")
        lowest, highest = _FS
        if not lowest <= self.fs <= highest:  # nor NaN
            raise RecordError(f"it gives a sampling frequency of {self.fs:g} Hz")
        if len(self.leads) * self.n_samples > _MAX_VALUES:
            raise RecordError(f"it claims {self.n_samples:,} samples of {len(self.leads)} leads")

    @property
    def derived(self) -> tuple[str, ...]:
        """The limb leads that are not stored but follow from those that are."""
        return derivable(self.sound_leads)

    @property
    def sound_leads(self) -> tuple[str, ...]:
        """The leads that can be used."""
        faulty = {row for row, _reason in self.faults}
        return tuple(lead for row, lead in enumerate(self.leads) if row not in faulty)

    def record(self) -> Record:
        """Decode the samples. Raises RecordError for a file that is damaged, and for one that no heart can have made.

        A lead of more than 100 mV from peak to peak is a fault of that lead.
        """
        if len(self.faults) == len(self.leads):
            raise RecordError(describe_faults(self.faults, self.leads))
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale
            signals = np.asarray(self.decode(), np.float32)
        if signals.shape != (len(self.leads), self.n_samples):
            raise RecordError(
                f"it says {self.n_samples:,} samples of {len(self.leads)} leads and has "
                f"{' x '.join(map(str, signals.shape))}"
            )
        notes = self.notes
        if self.n_used is not None and self.n_used < self.n_samples:
            signals = signals[:, : self.n_used]
            notes = (*notes, f"a calibration after {self.n_used / self.fs:g} s is left out")
        signals[np.isinf(signals)] = np.nan
        faults = dict(_impossible(signals)) | dict(self.faults)
        if len(faults) == len(self.leads):
            raise RecordError(describe_faults(sorted(faults.items()), self.leads))
        signals[list(faults)] = np.nan
        if (beat := _beat(signals, self.fs)) > _LARGE_BEAT:
            notes = (*notes, f"its beats span {beat:.3g} mV: the unit or the gain in its file looks wrong")
        return Record(signals, self.fs, self.leads, notes, tuple(sorted(faults.items())))


def person_of(
    numbers: Iterable[str | None],
    texts: Iterable[str | None] = (),
    *,
    born: date | None = None,
    age: str = "",
    unit: str = "",
    sex: str | None = None,
    recorded: datetime | None = None,
) -> Person:
    """Return the person with the first usable of ``numbers``, whom all numbers and ``texts`` name.

    The age is that between birth and recording, else the one that is stated: a number, and its unit with it or apart.
    """
    usable, named = identifying(*numbers), identifying(*texts)
    years = age_in_years(born, recorded)
    words = {word for text in named for word in re.findall(r"[^\W\d_]+", text.casefold())}
    return Person(
        next(iter(usable), None),
        identifying(*usable, *named),
        _stated_age(age, unit) if years is None else years,
        known_sex(sex),
        f"{born:%Y-%m-%d} {' '.join(sorted(words))}" if born is not None and words else None,
    )


def patient_number(text: str | None) -> str | None:
    """Return what tells patients apart, None for nothing and for what stands for nobody: ``0000``, ``ANONYMOUS``."""
    stripped = " ".join((text or "").split())
    return None if _NOBODY.fullmatch(stripped) else stripped


def identifying(*texts: str | None) -> tuple[str, ...]:
    """Return the texts that name a person, each once, without such as stand for nobody."""
    return tuple(dict.fromkeys(number for text in texts if (number := patient_number(text)) is not None))


def age_in_years(born: date | None, recorded: datetime | None) -> float | None:
    """Return the age in whole years at the recording, None where that is not known or cannot be."""
    if born is None or recorded is None:
        return None
    years = recorded.year - born.year - ((recorded.month, recorded.day) < (born.month, born.day))
    return plausible_age(years)


def timestamp(text: str) -> datetime | None:
    """Return what a DT of DICOM, a DA with a TM, or a TS of HL7 says; the time of the place, without the zone."""
    found = _TIMESTAMP.fullmatch(text)
    try:
        # six parts at most, by the pattern: mypy cannot count them
        return datetime(*(int(part or 0) for part in found.groups())) if found else None  # type: ignore[arg-type]
    except ValueError:
        return None


def plausible_age(years: float | None) -> float | None:
    """Return an age in years, None for what no person has."""
    return float(years) if years is not None and 0 <= years <= _OLDEST else None


def known_sex(text: str | None) -> str | None:
    """Return "female" or "male" for F, M, Female, male, weiblich, ...; None for anything else."""
    return _SEXES.get((text or "").strip().lower())


def _stated_age(text: str, unit: str) -> float | None:
    found = _AGE.fullmatch(text.strip())
    per_year = _PER_YEAR.get((found[2] or unit).strip().lower()) if found else None
    return plausible_age(float(found[1]) / per_year) if found and per_year else None


def _impossible(signals: NDArray[np.float32]) -> list[tuple[int, str]]:
    with np.errstate(all="ignore"):
        low = np.where(np.isnan(signals), np.inf, signals).min(axis=1)
        high = np.where(np.isnan(signals), -np.inf, signals).max(axis=1)
    return [
        (row, f"{{}} spans {span:,.3g} mV from peak to peak, which no ECG does")
        for row, span in enumerate((high - low).tolist())
        if span > _IMPOSSIBLE_MILLIVOLT
    ]


def _beat(signals: NDArray[np.float32], fs: float) -> float:
    """Return what a second of the largest lead spans in millivolt, 0 where no second is whole: drift hardly counts."""
    width = round(fs)
    n_seconds = signals.shape[1] // width
    seconds = signals[:, : n_seconds * width].reshape(len(signals), n_seconds, width)
    spans = np.ptp(seconds, axis=2)
    whole = [np.median(lead[~np.isnan(lead)]) for lead in spans if not np.isnan(lead).all()]
    return float(max(whole, default=0.0))
