"""The commands of ``docs/getting-started.md``, run one after another in a folder of their own, as its reader would."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.documents.consoles import Shown, renewed, run_command, shown
from tests.documents.pages import DOCS, ROOT

PAGE = DOCS / "getting-started.md"
# What takes minutes or does not end: tests of the pilot and of the service run it small.
_ELSEWHERE = ("--pilot", "ecgadvise serve")


def is_run(one: Shown) -> bool:
    """Whether a command of the page is run here."""
    return not any(words in one.command for words in _ELSEWHERE)


def walk(text: str, place: Path) -> Iterator[tuple[Shown, str]]:
    """Run the page's commands in order in an empty folder; yield each with what it printed."""
    (place / "examples").symlink_to(ROOT / "examples")
    for one in filter(is_run, shown(text)):
        yield one, _run(one.command, place)


def walked(text: str) -> str:
    """Return the page with every shown output as a walk gives it now."""
    with TemporaryDirectory() as place:
        outputs = {one.command: output for one, output in walk(text, Path(place))}
    return renewed(text, outputs.__getitem__)


def _run(command: str, place: Path) -> str:
    own = {"ECGADVISE_CORPORA": str(place / "corpora"), "ECGADVISE_ZOO": str(place / "zoo")}
    return run_command(command, place, may_speak=True, **own)
