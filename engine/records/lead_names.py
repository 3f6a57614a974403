"""The names of leads: whatever a device, a country or a file format calls them, in the contract's spelling.

A name is read only where it can mean one thing. Some mean a lead only in company: ``C1`` to ``C6`` are the IEC's names
of the chest leads (60601-2-25), but positions on the scalp in a sleep study's record, and ``D1`` to ``D3`` may be
anything; such a group is read where all of it is there, next to other leads and to none that it would double. What is
not read keeps its own name: unaugmented ``VR``, an inverted ``-aVR``, modified leads (``MLII``), ``V3R``, numbers.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import normalize

from engine.records.record import LEADS

_CHEST = {f"c{k}": f"V{k}" for k in range(1, 7)}
_LIMB = {"d1": "I", "d2": "II", "d3": "III"}
_ONE_MEANING = {lead.lower(): lead for lead in LEADS} | {"di": "I", "dii": "II", "diii": "III"}  # Latin America, France
_CODED = {lead.lower(): lead for lead in LEADS} | _CHEST
_IN_COMPANY = (_CHEST, _LIMB)
_COMPANY = 2  # other leads of the twelve that have to be there
# "ECG aVR" is EDF's form, "ECG -aVR" its form of the inverted lead: a sign is not part of what may stand between
_MDC = re.compile(r"mdc_ecg_lead_", re.IGNORECASE)
_PREFIX = re.compile(r"(?:(?:ecg|ekg)(?:\s+|[_.:]\s*|-(?!a))|lead(?:\s+|[_.:]\s*|-(?!a))?)", re.IGNORECASE)
_AUGMENTED = re.compile(r"a[ _-]?v[ _-]?([rlf])", re.IGNORECASE)
_LONGEST = 80  # of a name that a message shows
_COMMENT = re.compile(r"\s+#(?!\d).*")


def lead_name(name: str) -> str:
    """Return the contract's spelling of a name that means one lead: ``AVR``, ``Lead aVR``, ``DII``, ``ECG C1``.

    Other names stay, without what follows a ``#``.
    """
    bare = _without_comment(name)
    plain = normalize("NFKC", bare).strip()  # one character for a Roman numeral, full-width letters, hard spaces
    if coded := _MDC.match(plain):  # where dI is a lead I that was computed from others
        return _CODED.get(plain[coded.end() :].lower(), bare)
    known = _ONE_MEANING
    while found := _PREFIX.match(plain):
        plain, known = plain[found.end() :], _ONE_MEANING | _CHEST
    augmented = _AUGMENTED.fullmatch(plain)
    return f"aV{augmented[1].upper()}" if augmented else known.get(plain.lower(), bare)


@lru_cache(maxsize=1024)
def lead_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the contract's spelling of a record's names, as ``lead_name`` and by the company that they are in."""
    leads = [lead_name(name) for name in names]
    for group in _IN_COMPANY:
        lower = [lead.lower() for lead in leads]
        others = {lead for lead in leads if lead in LEADS}
        if set(group) <= set(lower) and not others & set(group.values()) and len(others) >= _COMPANY:
            leads = [group.get(low, lead) for low, lead in zip(lower, leads, strict=True)]
    return tuple(leads)


def renamed(names: Sequence[str], leads: Sequence[str]) -> dict[str, str]:
    """Return the names that stand for another lead, not for another spelling of it, with what they are read as."""
    pairs = ((_without_comment(name), lead) for name, lead in zip(names, leads, strict=True))
    return {name: lead for name, lead in pairs if not name.lower().replace("_", " ").endswith(lead.lower())}


def leads_in_words(leads: Sequence[str]) -> str:
    """Return leads by their names, for a message: "12 leads" are the twelve in their order and no others."""
    if tuple(leads) == LEADS:
        return "12 leads"
    return f"one lead ({leads[0]})" if len(leads) == 1 else f"{len(leads)} leads ({', '.join(leads)})"


def leads_not_read(others: Sequence[Sequence[str]], leads: Sequence[str]) -> tuple[str, ...]:
    """Return a note on a file's other groups of leads, none for none; what of the twelve only they have is named."""
    if not others:
        return ()
    only = [lead for lead in LEADS if lead not in leads and any(lead in other for other in others)]
    groups = "group" if len(others) == 1 else "groups"
    named = f" ({', '.join(only)})" if only else ""
    return (f"{len(others)} more {groups} of leads in its file: not read{named}",)


def _without_comment(name: str) -> str:
    stripped = "".join(letter if letter.isprintable() else " " for letter in name).strip()[:_LONGEST]
    return _COMMENT.sub("", stripped) or stripped
