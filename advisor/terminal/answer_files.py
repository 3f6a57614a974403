"""The files that ``recommend`` writes next to its answer: a page, a figure. Each appears whole or not at all."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.terminal.failures import Failure
from advisor.terminal.lines import say
from models.errors import ExitCode

if TYPE_CHECKING:
    from advisor.answer.recommend import Recommendation
    from advisor.own_records.answer import OwnAnswer
    from advisor.report.page import Origin

PLOTS = (".svg", ".png", ".html")
PAGES = (".html", ".htm")


def check_targets(report: Path | None, plot: Path | None, option: str = "plot") -> None:
    """Refuse, before anything is worked out, files that cannot be written and endings that say something else."""
    for name, path, endings in (("report", report, PAGES), (option, plot, PLOTS)):
        if path is not None and path.suffix not in endings:
            raise Failure(f"--{name} is {path}: its ending must be one of {', '.join(endings)}", ExitCode.USAGE)
    if report is not None and plot is not None and report.resolve() == plot.resolve():
        raise Failure(f"--report and --plot both name {report}: give each a name of its own", ExitCode.USAGE)
    from engine.files import check_files

    for path in (report, plot):
        if path is not None:
            with _said_of([path]):
                _check_links([path])
                check_files([path])


def write_answer(
    answer: "Recommendation", curves: Path, report: Path | None, plot: Path | None, own: "OwnAnswer | None" = None
) -> None:
    """Write what was asked for, and say on stderr where.

    ``curves`` is the file that the answer came from, ``own`` what was found of the asker's own records.
    """
    contents = {}
    if report is not None:
        contents[report] = _page(answer, curves, own)
    if plot is not None:
        contents[plot] = _figure(answer, plot.suffix)
    write_whole(contents)
    for name, path in (("report", report), ("plot", plot)):
        if path is not None:
            say(f"{name}: {path}")


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write all files or none, in place of those that are there, and make their folders. Raises Failure."""
    from engine.files import write_files

    with _said_of(contents):
        _check_links(contents)
        write_files(contents)


def _check_links(paths: Iterable[Path]) -> None:
    """Refuse a link into a folder that is not there: that is a disk that is missing rather than a folder to make."""
    for path in paths:
        if path.is_symlink() and not (folder := path.resolve().parent).is_dir():
            raise Failure(f"cannot write {path}: there is no folder {folder}", ExitCode.FAILURE)


@contextmanager
def _said_of(paths: Iterable[Path]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = error.filename2 or ", ".join(map(str, paths))  # a file that could not take its name
        raise Failure(f"cannot write {named}: {error.strerror}", ExitCode.FAILURE) from None


def _page(answer: "Recommendation", curves: Path, own: "OwnAnswer | None") -> bytes:
    from advisor.report.page import to_page
    from advisor.text.explanation import explain

    origin = origin_of(shlex.join(["ecgadvise", *sys.argv[1:]]), curves)
    return to_page(answer, explain(answer, curves), origin, own).encode()


def origin_of(command: str, curves: Path) -> "Origin":
    """Return where a page comes from that a ``command`` makes now, from a curves file. Raises Failure."""
    from datetime import UTC, datetime
    from hashlib import sha256

    from advisor.report.page import Origin
    from studies.files.shipped import DEFAULT_CURVES

    try:
        content = curves.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read the curves file {curves}: {error.strerror}", ExitCode.DATA) from None
    return Origin(
        command=command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        curves=f"{curves.name}, which ships" if curves == DEFAULT_CURVES else str(curves),
        curves_sha256=sha256(content).hexdigest(),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    from platform import python_version

    from engine.versions import version_of

    return {"ecgadvise": version_of("ecgadvise"), "Python": python_version(), "numpy": version_of("numpy")}


def _figure(answer: "Recommendation", suffix: str) -> bytes:
    from advisor.text.curve_figure import to_bytes
    from advisor.text.curve_lines import with_points

    question, drawn = answer.question, with_points(answer.curve, answer.curves)
    return to_bytes([drawn], suffix, question.margin, f"{question.n_records:,} labelled records", question.n_records)
