"""What the texts of a document say: samples, moments, the names of leads, and what names a person."""

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from engine.records.formats.xml_documents.tree import number_of, text_of, texts_in
from engine.records.lead_names import lead_names
from engine.records.record import RecordError
from engine.records.units import in_millivolt

Spelling = Callable[[tuple[str, ...]], tuple[str, ...]]

Separator = Literal[",", " "]  # a space stands for any white space

_MOST_LEADS = 500
_LARGEST_COUNT = 1 << 53  # of which every number is a float
_AMPLITUDES = (1e-9, 1e3)  # millivolt of one count, far beyond what any device has
_NUMBERS = {  # possessive: nothing is tried twice, nor remembered, however long a text is
    ",": re.compile(r"(?:\s*+[-+]?[0-9]{1,9}+\s*+(?:,|\Z))*+\s*+", re.ASCII),
    " ": re.compile(r"\s*+(?:[-+]?[0-9]{1,9}+(?:\s++|\Z))*+", re.ASCII),
}


def whole_numbers(text: str, separator: Separator, n_samples: int) -> NDArray[np.int64]:
    """Return (n_samples,) whole numbers that stand between separators, the last of which may end the text.

    Raises RecordError for anything else between them, and for another number of numbers.
    """
    if not _NUMBERS[separator].fullmatch(text):
        raise RecordError("its samples are not all whole numbers")
    numbers = np.fromstring(text.replace(",", " "), np.int64, sep=" ")
    if len(numbers) != n_samples:
        raise RecordError("its leads have different numbers of samples")
    return numbers


def count_numbers(text: str, separator: Separator) -> int:
    """Return how many numbers a text has, without reading them."""
    if separator == ",":
        stripped = text.rstrip()
        return stripped.count(",") + bool(stripped and not stripped.endswith(","))
    visible = np.frombuffer(text.encode("utf-8", "replace"), np.uint8) > ord(" ")
    return int(np.count_nonzero(visible[1:] & ~visible[:-1])) + bool(visible[:1].any())


def from_base64(text: str) -> bytes:
    """Return the bytes of samples in base64, over any lines. Raises RecordError for anything else in the text."""
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise RecordError("its samples are cut or damaged: they are not Base64") from None


def count_in(element: Element, path: str, what: str) -> int | None:
    """Return a count, None where there is none. Raises RecordError, naming ``what``, for what is not a count."""
    text = text_of(element, path)
    if not text:
        return None
    number = number_of(text, what)
    if not number.is_integer() or not 0 <= number < _LARGEST_COUNT:
        raise RecordError(f"its {what} is not a count")
    return int(number)


def amplitude(text: str, unit: str) -> float:
    """Return how many millivolt one count is. Raises RecordError for no voltage, and for no such amplitude."""
    millivolt = in_millivolt(unit)
    if millivolt is None:
        raise RecordError("it gives no unit of voltage")
    of_count = number_of(text, "amplitude of one count") * millivolt
    lowest, highest = _AMPLITUDES
    if not lowest <= of_count <= highest:
        raise RecordError("its amplitude of one count is impossible")
    return of_count


def fullest(
    waveforms: Sequence[Element], names: Callable[[Element], Sequence[str]], seconds: Callable[[Element], float]
) -> tuple[Element, list[tuple[str, ...]]]:
    """Return the waveform of most leads, of several such the longest, then the first; and the others' leads.

    ``names`` gives a waveform's leads as written, ``seconds`` its length; one that has none, or where that raises
    RecordError, is the shortest.
    """

    def length(waveform: Element) -> float:
        try:
            return seconds(waveform)
        except (RecordError, ArithmeticError):
            return 0.0

    if len(waveforms) == 1:
        return waveforms[0], []
    leads = [lead_names(tuple(names(waveform)[:_MOST_LEADS])) for waveform in waveforms]
    best = max(range(len(waveforms)), key=lambda k: (len(set(leads[k])), length(waveforms[k])))
    return waveforms[best], [other for k, other in enumerate(leads) if k != best]


def named_leads(names: Iterable[str], spelled: Spelling = lead_names) -> tuple[str, ...]:
    """Return leads in the contract's spelling. Raises RecordError where there are none, or more than can be."""
    given = tuple(names)
    if not given:
        raise RecordError("holds no leads")
    if len(given) > _MOST_LEADS:
        raise RecordError(f"it claims {len(given):,} leads")
    if not all(given):
        raise RecordError("a lead has no name")
    return spelled(given)


def moment(*parts: str) -> datetime | None:
    """Return the moment that year, month, day, hour, minute and second tell, None for what is no date.

    What is missing at the end is zero: a date without a time is its midnight.
    """
    given = list(parts)
    while given and not given[-1]:
        given.pop()
    try:
        return datetime(*map(int, given))  # type: ignore[arg-type]  # too few or too many raise TypeError
    except (ValueError, TypeError, OverflowError):
        return None


def iso_moment(text: str) -> datetime | None:
    """Return the moment that a text is by ISO 8601, in the time of the place; None for any other text."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None


def naming_texts(element: Element | None, harmless: Collection[str]) -> list[str]:
    """Return every text about a person but those of the elements that tell no one apart: sex, weight, race."""
    if element is None:
        return []
    return [text for child in element if child.tag not in harmless for text in texts_in(child)]
