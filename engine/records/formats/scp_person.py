"""Whom an SCP-ECG record is of and when it was taken: section 1, fields of a tag, a length and a value.

After EN 1064 (ISO 11073-91064), 5.4, and its annex A for the character sets.
"""

from datetime import date, datetime, time
from struct import Struct

from engine.records.formats.contents import Person, person_of
from engine.records.record import RecordError

_FIELD = Struct("<BH")
_END = 255
_LAST_NAME, _FIRST_NAME, _PATIENT, _SECOND_LAST_NAME, _AGE, _BORN, _SEX = 0, 1, 2, 3, 4, 5, 8
_DEVICE, _DATE, _TIME, _SEQUENCE = 14, 25, 26, 31
_LANGUAGE = 16  # the byte of the device's description that names the character set
_UNITS = {1: "years", 2: "months", 3: "weeks", 4: "days", 5: "hours"}  # of an age
_SEXES = {1: "male", 2: "female"}
_CHARACTER_SETS = {
    0x03: "iso8859_2", 0x0B: "iso8859_4", 0x13: "iso8859_5", 0x1B: "iso8859_6", 0x23: "iso8859_7", 0x2B: "iso8859_8",
    0x33: "iso8859_11", 0x3B: "iso8859_15", 0x07: "utf_16_le", 0x0F: "shift_jis", 0x17: "euc_jp", 0x1F: "euc_jp",
    0x27: "gb2312", 0x2F: "cp949", 0x37: "utf_8",
}  # fmt: skip


def read_person(section: bytes) -> tuple[Person, datetime | None]:
    """Return the person, and the time of acquisition where it is given, of a section 1 without its header.

    Raises RecordError for a field that is longer than the section: who is named after it would not be known.
    """
    fields = _fields(section)
    device = _first(fields, _DEVICE)
    language = device[_LANGUAGE] if len(device) > _LANGUAGE else 0
    character_set = _CHARACTER_SETS.get(language, "latin_1")
    names = {
        tag: [_text(value, character_set) for value in fields.get(tag, ())]
        for tag in (_LAST_NAME, _FIRST_NAME, _SECOND_LAST_NAME, _PATIENT, _SEQUENCE)
    }
    day, hour = _date(_first(fields, _DATE)), _time(_first(fields, _TIME))
    recorded = datetime.combine(day, hour) if day else None
    born = _date(_first(fields, _BORN))
    age, unit = _age(_first(fields, _AGE))
    person = person_of(
        names[_PATIENT],
        (*(text for texts in names.values() for text in texts), born.isoformat() if born else None),
        born=born,
        age=age,
        unit=unit,
        sex=_SEXES.get(_first(fields, _SEX)[0]) if _first(fields, _SEX) else None,
        recorded=recorded,
    )
    return person, recorded


def _fields(section: bytes) -> dict[int, list[bytes]]:
    fields: dict[int, list[bytes]] = {}
    at = 0
    while at < len(section) and section[at] != _END:
        start = at + _FIELD.size
        if start > len(section):
            if any(section[at:]):
                raise RecordError("its section 1 ends within a field")
            break
        tag, length = _FIELD.unpack_from(section, at)
        at = start + length
        if at > len(section):
            raise RecordError("its section 1 has a field that is longer than the section")
        fields.setdefault(tag, []).append(section[start:at])
    return fields


def _first(fields: dict[int, list[bytes]], tag: int) -> bytes:
    return next((value for value in fields.get(tag, ()) if value), b"")


def _text(value: bytes, character_set: str) -> str:
    text = value[: len(value) & ~1] if character_set == "utf_16_le" else value
    return text.decode(character_set, "replace").partition("\0")[0].lstrip("\ufeff").strip()


def _date(value: bytes) -> date | None:
    if len(value) < 4:
        return None
    try:
        return date(int.from_bytes(value[:2], "little"), value[2], value[3])
    except ValueError:
        return None  # zeros for a date that is not known


def _time(value: bytes) -> time:
    try:
        return time(*value[:3]) if len(value) >= 3 else time()
    except ValueError:
        return time()


def _age(value: bytes) -> tuple[str, str]:
    """Return an age and its unit, nothing for the 0 that stands for an age that is not known."""
    age = int.from_bytes(value[:2], "little")
    return (str(age), _UNITS.get(value[2], "")) if age and len(value) > 2 else ("", "")
