"""What single cells say, however the system that wrote them spells it: nothing (missing), yes or no, a column of sexes.

Words for a missing value are those of R (NA), pandas (the list of ``read_csv``), SAS (``.``, ``.A`` to ``.Z`` and
``._``), Stata (``.``, ``.a`` to ``.z``), SPSS (``#NULL!``), Excel's errors and SQL. Numbers such as -9 and 99 are
values: whether one stands for "missing" is not in the table.
"""

import re
import unicodedata
from collections.abc import Sequence

from engine.sources.tables import parse_sex

_MISSING = {
    "", "na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "nan", "-nan", "nat", "null", "(null)", "none", "missing",
    "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#null!", "#value!", "#ref!", "#div/0!", "#name?", "#num!", "\\n",
    "unknown", "not available", "n.a.", "?", "-", "--",
}  # fmt: skip
_MISSING_OF_SAS_AND_STATA = re.compile(r"\.[a-z_]?")
_NUMBER = re.compile(r"([01])(?:[.,]0*)?(?:e[+-]?0+)?")
_WORDS = {
    **dict.fromkeys(("true", "yes", "positive", "pos", "present", "wahr", "vrai", "verdadero", "vero", "waar"), True),
    **dict.fromkeys(("false", "no", "negative", "neg", "absent", "falsch", "faux", "falso", "onwaar"), False),
}
_LETTERS = ({"y": True, "n": False}, {"t": True, "f": False})
# Letters of one column that tell the sexes apart: English, German, Dutch, Scandinavian and Polish, French.
_SEX_LETTERS = ("fm", "wm", "vm", "km", "fh")
_SHORT = 3  # characters: "2", "?", "yes", "n/a"
DASHES = dict.fromkeys(range(0x2010, 0x2016), "-") | {0x2212: "-"}


def clean(cell: str) -> str:
    """Return a cell without invisible characters (Unicode's Cf) and the white space around it."""
    if cell.isascii():
        return cell.strip()
    return "".join(c for c in cell if unicodedata.category(c) != "Cf").strip()


def is_missing(cell: str) -> bool:
    """Return whether a cell is empty or says so in the words of some system."""
    said = clean(cell).translate(DASHES).lower()
    return said in _MISSING or _MISSING_OF_SAS_AND_STATA.fullmatch(said) is not None


def flags(cells: Sequence[str]) -> list[bool | None]:
    """Return what the cells of a column say: yes (1, 1.0, TRUE, yes, positive), no, or None for anything else.

    Single letters count only where a column holds no others than Y and N, or both T and F: a column of F and M is not
    one of labels, and one of F alone may be of sexes.
    """
    said = {cell: clean(cell).lower() for cell in set(cells)}
    different = set(said.values())
    letters = {one for one in different if len(one) == 1 and one.isalpha()}
    pair = next((pair for pair in _LETTERS if letters and letters <= pair.keys() and letters != {"f"}), {})
    values: dict[str, bool | None] = {}
    for word in different:
        number = _NUMBER.fullmatch(word)
        values[word] = number[1] == "1" if number else _WORDS.get(word, pair.get(word))
    if pair and any(word not in pair and not is_missing(word) for word in different):
        values.update(dict.fromkeys(pair))
    return [values[said[cell]] for cell in cells]


def sexes(cells: Sequence[str]) -> list[str | None]:
    """Return "female", "male" or None for the cells of a column of sexes.

    A letter counts where the column's letters tell which language it is: H and M could be hombre and mujer. Numbers do
    not say which is which.
    """
    said = [clean(cell).lower() for cell in cells]
    letters = {word for word in said if len(word) == 1 and word in "fhkmvw"}
    known = any(letters <= set(pair) for pair in _SEX_LETTERS) and letters != {"h"}
    return [_sex(word) if known or len(word) > 1 else None for word in said]


def _sex(word: str) -> str | None:
    return {"w": "female", "v": "female", "k": "female", "h": "male"}.get(word) or parse_sex(word)


def shown(cell: str) -> str:
    """Return what a message may say of a cell that is not what it should be: the cell where it is a short code.

    Anything longer may be a name, a birth date or a remark about a person: where it stands is said in its place.
    """
    if not cell:
        return "nothing"
    return repr(cell) if len(cell) <= _SHORT else f"{len(cell)} characters of something else"
