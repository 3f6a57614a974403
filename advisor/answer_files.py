"""The files that ``recommend`` writes beside its answer: a page, a figure. Each appears whole or not at all."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from advisor.failures import ExitCode, Failure

if TYPE_CHECKING:
    from advisor.advice import Recommendation

PLOTS = (".svg", ".png", ".html")
PAGES = (".html", ".htm")


def check_targets(report: Path | None, plot: Path | None, option: str = "plot") -> None:
    """Refuse, before anything is worked out, names whose endings say something else than what would be written."""
    for name, path, endings in (("report", report, PAGES), (option, plot, PLOTS)):
        if path is not None and path.suffix not in endings:
            raise Failure(f"--{name} is {path}: its ending must be {' or '.join(endings)}", ExitCode.USAGE)
    if report is not None and report == plot:
        raise Failure(f"--report and --plot both name {report}: give each a name of its own", ExitCode.USAGE)


def write_answer(answer: "Recommendation", curves: Path, report: Path | None, plot: Path | None) -> None:
    """Write what was asked for, and say on stderr where. ``curves`` is the file that the answer came from."""
    if report is not None:
        write_file(report, _page(answer, curves))
        typer.echo(f"report: {report}", err=True)
    if plot is not None:
        write_file(plot, _figure(answer, plot.suffix))
        typer.echo(f"plot: {plot}", err=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole, in place of one that is there. Raises Failure, and where no folder is: it is not made."""
    from engine.directories import write_files

    try:
        path.parent.stat()
        write_files({path: content})
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", ExitCode.FAILURE) from None


def _page(answer: "Recommendation", curves: Path) -> bytes:
    from datetime import UTC, datetime
    from hashlib import sha256

    from advisor.explanation import explain
    from advisor.report import Origin, to_page
    from studies.evidence_files import DEFAULT_CURVES

    try:
        content = curves.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read the curves file {curves}: {error.strerror}", ExitCode.DATA) from None
    origin = Origin(
        command=shlex.join(["ecgadvise", *sys.argv[1:]]),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        curves=f"{curves.name}, which ships" if curves == DEFAULT_CURVES else str(curves),
        curves_sha256=sha256(content).hexdigest(),
        versions=_versions(),
    )
    return to_page(answer, explain(answer, curves), origin).encode()


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    try:
        ours = version("ecgadvise")
    except PackageNotFoundError:
        ours = "from a source tree"
    return {"ecgadvise": ours, "Python": python_version(), "numpy": version("numpy")}


def _figure(answer: "Recommendation", suffix: str) -> bytes:
    from advisor.charts import to_bytes
    from advisor.curve_lines import with_task_means

    question, curve = answer.question, answer.curve
    drawn = with_task_means(curve, answer.curves) if curve.pooled else curve
    return to_bytes([drawn], suffix, question.margin, f"{question.n_records:,} labelled records", question.n_records)
