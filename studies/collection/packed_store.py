"""Pack a study store into the file that ships: ``study.db.xz``, a tenth of what the runner writes.

    python -m studies.collection.packed_store atlas.db studies/evidence/atlas/study.db.xz

It is a store without test predictions, claims and a write-ahead log; the same store gives the same bytes.
"""

import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.files import write_files
from models.errors import UserError
from studies.runs.store import Store, StoreError
from studies.runs.store_files import STORE, is_packed

_USAGE = "usage: python -m studies.collection.packed_store STORE OUT.db.xz"


def pack_store(store: Path, out: Path) -> Path:
    """Write a store, which is only read, to a packed file and return its path.

    Raises StoreError for a store that cannot be read and a name that is not a packed store's; OSError.
    """
    import lzma

    if not is_packed(out):
        raise StoreError(f"{out} is not a name for a packed store: {STORE}.xz is one")
    with TemporaryDirectory() as folder, closing(Store(store, create=False)) as opened:
        opened.copy_without_predictions(Path(folder) / STORE)
        content = (Path(folder) / STORE).read_bytes()
    write_files({out: lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)})
    return out


def main() -> None:
    """Pack the store that is named on the command line."""
    try:
        store, out = map(Path, sys.argv[1:])
    except ValueError:
        sys.exit(_USAGE)
    try:
        packed = pack_store(store, out)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write {out}: {error.strerror}")
    sys.stdout.write(f"{packed}: {packed.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
