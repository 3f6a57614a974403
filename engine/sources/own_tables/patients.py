"""One patient under several spellings: what differs only in how a system or a clerk wrote it is joined.

Joined are case, white space, invisible and compatibility characters (NFKC), kinds of dashes, ``.0`` at the end of a
number and zeros at the start of one. Joining can only keep records of one split together; what speaks against it, two
sexes under one patient's spellings, is refused.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.sources import SourceError
from engine.sources.own_tables.cells import DASHES, is_missing

_SCIENTIFIC = re.compile(r"[1-9](?:[.,]\d+)?E\+\d{1,3}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Patients:
    """For every row its patient, by the first spelling of the table, "" for none; how many have several spellings."""

    rows: tuple[str, ...]
    n_joined: int

    def __len__(self) -> int:
        return len(set(self.rows) - {""})


def same_patient(cell: str) -> str:
    """Return what all spellings of one patient have in common."""
    text = cell
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in text if unicodedata.category(c) not in {"Cf", "Cc"}).translate(DASHES)
    text = re.sub(r"\s+", "", text).casefold()
    text = re.sub(r"(?<=\d)[.,]0+$", "", text) if re.fullmatch(r"\d+[.,]0+", text) else text
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def join_spellings(
    path: Path, column: str, cells: Sequence[str], lines: Sequence[int], sexes: Sequence[str | None]
) -> Patients:
    """Return the patients of a column.

    Raises SourceError for numbers in scientific notation, whose last digits are lost, and where one patient's
    spellings have two sexes. Messages name lines and not the patients.
    """
    spellings: dict[str, dict[str, int]] = defaultdict(dict)
    rows = []
    for cell, line in zip(cells, lines, strict=True):
        if _SCIENTIFIC.fullmatch(cell):
            raise SourceError(
                f"{path}, line {line}: {column} is in scientific notation, as Excel and R write long or round numbers, "
                "so that digits may be lost; write the column as text"
            )
        if is_missing(cell):
            rows.append("")
            continue
        of_one = spellings[same_patient(cell)]
        of_one.setdefault(cell, line)
        rows.append(next(iter(of_one)))
    several = {next(iter(of_one)): of_one for of_one in spellings.values() if len(of_one) > 1}
    _refuse_two_people(path, column, several, cells, rows, sexes)
    return Patients(tuple(rows), len(several))


def _refuse_two_people(
    path: Path,
    column: str,
    several: dict[str, dict[str, int]],
    cells: Sequence[str],
    rows: Sequence[str],
    sexes: Sequence[str | None],
) -> None:
    """Raise SourceError where the sex differs between two spellings, but not within one."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cell, patient, sex in zip(cells, rows, sexes, strict=True):
        if patient in several and sex is not None:
            found[patient][cell].add(sex)
    for patient, by_spelling in found.items():
        if len(set().union(*by_spelling.values())) > 1 and all(len(sex) == 1 for sex in by_spelling.values()):
            lines = " and ".join(str(several[patient][cell]) for cell in list(by_spelling)[:2])
            raise SourceError(
                f"{path}, lines {lines}: {column} has two spellings that could be one patient or two: their sexes "
                "differ; write them alike, or so that more than zeros, case or spaces tells them apart"
            )
