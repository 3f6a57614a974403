"""What the files of a user's own directory say before a sample is read: leads, and which recordings are of one person.

A person's number and name stay in the file: a patient is called by the first of his or her recordings.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from engine.records.formats.contents import Person
from engine.records.formats.recordings import WFDB, Glance, Recording
from engine.records.lead_names import renamed
from engine.records.record import LEADS, RecordError
from engine.records.signal import derivable
from engine.sources import Entry, SourceError
from engine.sources.own_tables.patients import same_patient

_CHANNEL = re.compile(r"[\w.+/()%-]{1,16}")  # Resp, CO2, SpO2(%)
_SHORTEST = 4  # letters or digits that may be of a person; "ann" is in many a word
_LEADS_LOOKED_AT = 200  # recordings, spread over the directory, that decide which leads the corpus has


@dataclass(frozen=True)
class Looked:
    """What came of looking at recordings: what each says, or the problem of one that cannot be read."""

    glances: Mapping[str, Glance]
    problems: Mapping[str, str]
    noun: str

    def count(self, number: int) -> str:
        """Return a number of what was looked at, in words."""
        return counted(number, self.noun)


def look_at(recordings: Sequence[Recording]) -> Looked:
    """Look at every recording, without its samples."""
    glances, problems = {}, {}
    for recording in recordings:
        try:
            glances[recording.record_id] = recording.glance()
        except RecordError as error:
            problems[recording.record_id] = str(error)
    only_wfdb = all(recording.format == WFDB for recording in recordings)
    return Looked(glances, problems, "header" if only_wfdb else "recording")


def common_leads(looked: Looked) -> tuple[tuple[str, ...], str]:
    """Return the leads that most recordings have or allow to derive, and a sentence about them. Raises SourceError."""
    layouts: Counter[tuple[str, ...]] = Counter()
    others: Counter[str] = Counter()
    other_names: dict[str, str] = {}
    every = [*looked.glances.values()]
    n_looked = len(looked.glances) + len(looked.problems)
    chosen = every[:: max(1, len(every) // _LEADS_LOOKED_AT)]
    for glance in chosen:
        within = tuple(lead for lead in LEADS if lead in glance.leads or lead in derivable(glance.sound_leads))
        layouts[within or tuple(sorted(set(glance.sound_leads)))] += 1
        others.update(set(glance.leads) - set(LEADS))
        other_names |= renamed(glance.names, glance.leads)
    layouts.pop((), None)
    if not layouts:
        raise SourceError(f"none of {looked.count(n_looked)} looked at can be read and names its leads")
    leads = layouts.most_common(1)[0][0]
    votes = sum(n for layout, n in layouts.items() if set(leads) <= set(layout))
    said = f"leads {', '.join(leads)} ({votes} of {looked.count(len(chosen))} looked at have or give them)"
    if other_names:
        said += f"; {', '.join(other_names)} read as {', '.join(other_names.values())}"
    more = {lead: None for layout in layouts for lead in layout if lead not in leads}
    more |= {lead: None for lead in sorted(others) if lead not in leads}
    have_more = sum(n for layout, n in layouts.items() if set(layout) - set(leads))
    have_more = max([have_more, *(others[lead] for lead in more)])
    not_used = ", ".join(dict.fromkeys(map(_shown, more)))
    return leads, f"{said}; not used: {not_used} of {looked.count(have_more)}" if more else said


def people_of_files(
    entries: Sequence[Entry], looked: Looked, named_by: str | None
) -> tuple[list[Entry], tuple[str, ...]]:
    """Return entries with patient, age and sex as the files say, where no table does, and sentences about it.

    ``named_by`` is the column that has named their patients.
    """
    people = {record: glance.person for record, glance in looked.glances.items()}
    who_of = {record: who for record, person in people.items() if (who := who_is(person)) is not None}
    completed = []
    first_of: dict[str, str] = {}
    for entry in entries:
        who, person = who_of.get(entry.record_id), people.get(entry.record_id)
        patient = entry.patient
        if who is not None and named_by is None:
            patient = first_of.setdefault(who, entry.record_id)
        completed.append(
            replace(
                entry,
                patient=patient,
                age=person.age if person and entry.age is None else entry.age,
                sex=person.sex if person and entry.sex is None else entry.sex,
            )
        )
    if not who_of:
        return completed, ()
    said = []
    if named_by is None:
        n_files = len(looked.glances) + len(looked.problems)
        others = "; every other record counts as its own patient" if len(who_of) < n_files else ""
        patients = counted(len(first_of), "patient")
        said.append(f"{len(who_of):,} of {counted(n_files, 'file')} say whose they are: {patients}{others}")
    elif split := _split_people(entries, who_of):
        said.append(
            f"{counted(split, 'patient')} by the numbers in the files {'has' if split == 1 else 'have'} more than one "
            f"name in column {named_by}, which is believed: records of one patient may end up in training and test"
        )
    if n_named := sum(names_a_person(record, person) for record, person in people.items()):
        said.append(
            f"{counted(n_named, 'file')} {'is' if n_named == 1 else 'are'} named after the patient, and messages and "
            "corpora name records by their files: ecgadvise data convert gives them other names"
        )
    return completed, tuple(said)


def who_is(person: Person) -> str | None:
    """Return what tells a person from others: the number, however it is spelled, else name and birth date together."""
    return same_patient(person.number) if person.number is not None else person.name_and_birth


def names_a_person(record_id: str, person: Person) -> bool:
    """Whether a recording's path holds a number, a name or a date of its person, however it is punctuated."""
    path = _letters(record_id)
    words = {word for text in person.identity for word in (*re.split(r"[\W_]+", text), text)}
    return any(len(plain) >= _SHORTEST and plain in path for plain in map(_letters, words))


def _letters(text: str) -> str:
    """Return the letters and digits of a text, without accents, case and zeros in front."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return re.sub(r"[\W_]", "", "".join(c for c in plain if not unicodedata.combining(c))).lstrip("0")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _split_people(entries: Sequence[Entry], who_of: Mapping[str, str]) -> int:
    """Count the people whose recordings are of several patients by the table."""
    patients: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.problem is None and (who := who_of.get(entry.record_id)) is not None:
            patients[who].add(entry.patient)
    return sum(len(names) > 1 for names in patients.values())


def _shown(channel: str) -> str:
    """Return a channel's name for a message, unless it may be free text, which may name a person."""
    return channel if _CHANNEL.fullmatch(channel) else "a channel with a long name"
