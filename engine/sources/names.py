"""The name of the corpus that a folder's records become: a folder of its own on any operating system."""

import hashlib
import re
import unicodedata

_RESERVED = {"synthetic", "from-directories"}  # have a meaning in the folder of corpora
_OF_WINDOWS = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))}
_LONGEST = 120  # bytes: a file system takes 255, and names of files in the making are longer


def corpus_name(folder: str) -> str:
    """Return a name of small letters and digits of any script, with hyphens between them, for a folder's name.

    Names that differ only in case or in how their accents are composed give the same one. What has no letter or digit
    is ``records`` and a hash; a hash also ends a name that is too long; a name that has a meaning elsewhere gets
    ``-records``.
    """
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", folder).casefold())
    kept = "".join(letter if _is_of_words(letter) else "-" for letter in composed)
    name = re.sub("-+", "-", kept).strip("-")
    if not any(unicodedata.category(letter)[0] in "LN" for letter in name):
        return f"records-{_hash(composed)}" if composed else "records"
    if len(encoded := name.encode()) > _LONGEST:
        return f"{encoded[:_LONGEST].decode(errors='ignore').rstrip('-')}-{_hash(name)}"
    return f"{name}-records" if name in _RESERVED | _OF_WINDOWS else name


def _is_of_words(letter: str) -> bool:
    """Letters, the marks that belong to them, and digits; what cannot be encoded (a lone surrogate) is none."""
    return unicodedata.category(letter)[0] in "LMN"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
