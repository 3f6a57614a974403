"""Where pilots lie: in a folder that is named after the records' content, or in one that the asker names.

The latter is written down in the former: so every later command on the same records finds it.
"""

from pathlib import Path

from engine.corpora.corpus import default_corpora

STORE = "pilot.db"
_ELSEWHERE = "elsewhere.txt"  # folders that askers named for pilots on these records, a line each


def pilots_folder() -> Path:
    """Return where pilots lie that no other folder was named for."""
    return default_corpora() / "pilots"


def folders_of(pilots: Path, content_hash: str) -> list[Path]:
    """Return the folders with pilots on the records of that content, newest store first.

    ``pilots`` is where pilots are kept that no other folder was named for.
    """
    own = own_folder(pilots, content_hash)
    named = own / _ELSEWHERE
    others = named.read_text(encoding="utf-8").splitlines() if named.is_file() else []
    stores = [folder / STORE for folder in (own, *map(Path, others))]
    there = [store for store in stores if store.is_file()]
    return [store.parent for store in sorted(there, key=lambda store: -store.stat().st_mtime_ns)]


def choose_folder(pilots: Path, content_hash: str, named: Path | None) -> Path:
    """Return the folder of a pilot: the one ``named``, which is written down for later commands, else its own.

    Raises OSError.
    """
    own = own_folder(pilots, content_hash)
    if named is None:
        return own
    own.mkdir(parents=True, exist_ok=True)
    where, list_of = str(named.resolve()), own / _ELSEWHERE
    known_ones = list_of.read_text(encoding="utf-8").splitlines() if list_of.is_file() else []
    if where not in known_ones:
        list_of.write_text("\n".join([*known_ones, where, ""]), encoding="utf-8")
    return named


def own_folder(pilots: Path, content_hash: str) -> Path:
    """Return the folder of pilots on the records of that content, where no other is named."""
    return pilots / content_hash[:12]
