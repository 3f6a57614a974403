"""``docs/gain.svg``, README's picture: the curves that ship, drawn by ``recommend --plot``, and from what."""

import hashlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from studies.files.shipped import DEFAULT_CURVES
from tests.documents.consoles import run_command
from tests.documents.pages import DOCS

PICTURE = DOCS / "gain.svg"
_COMMAND = "ecgadvise recommend --n-records 5000 --arch cnn --plot {}"
_DRAWN_FROM = re.compile(r"<!-- drawn from curves of SHA-256 ([0-9a-f]{64}) -->\n$")


def draw() -> str:
    """Return the picture as it is drawn now, with the hash of the curves file that it shows at its end."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "gain.svg"
        run_command(f"{_COMMAND.format(file)} 2>&1")
        return f"{file.read_text(encoding='utf-8').rstrip()}\n<!-- drawn from curves of SHA-256 {curves_now()} -->\n"


def curves_now() -> str:
    """Return the hash of the curves file that ships."""
    return hashlib.sha256(DEFAULT_CURVES.read_bytes()).hexdigest()


def drawn_from(picture: str) -> str | None:
    """Return the hash of the curves file that a picture was drawn from, None where it does not say."""
    found = _DRAWN_FROM.search(picture)
    return None if found is None else found[1]


def words(picture: str) -> list[str]:
    """Return the words and numbers that are written in a picture."""
    return re.findall(r">([^<>]+)</text>", picture)
