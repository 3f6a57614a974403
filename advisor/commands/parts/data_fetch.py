"""``ecgadvise data list`` and ``data fetch``: which public sets there are, and their verified files in a folder."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.download.catalogue import PublishedSet
    from engine.download.tree import Progress

SCHEMA_VERSION = 1
LIST_EXAMPLE = "Example: ecgadvise data list"
FETCH_EXAMPLE = "Example: ecgadvise data fetch ptb-xl --out ptb-xl"
ACCEPTED = ".ecgadvise-licence-accepted"
_MOST_JOBS = 16  # PhysioNet turns away clients with more connections than about two dozen


def list_sets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the public sets: version, licence, size, and whether data fetch can download them."""
    from engine.download.catalogue import PUBLISHED

    if as_json:
        import json

        sets = [_describe(one) for one in PUBLISHED.values()]
        typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, "sets": sets}, indent=2))
        return
    typer.echo(f"{'name':14} {'version':7} {'licence':12} {'records':>7}  size")
    for one in PUBLISHED.values():
        size = one.size if one.fetchable else "fetch cannot get it: see its page"
        typer.echo(f"{one.name:14} {one.version:7} {one.licence:12} {one.records:>7,}  {size}")
        typer.echo(f"    {one.url}")


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A set that data list names.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to fetch into. [default: NAME here]")] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A mirror: the folder that holds its SHA256SUMS.txt.")
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the set's licence without being asked.")
    ] = False,
    fs: Annotated[
        int | None, typer.Option("--fs", help="Sampling frequency in Hz, for a set that comes at several.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every file of the set, not only what is needed.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, max=_MOST_JOBS, help="Connections at a time. [default: 8]")] = None,
) -> None:
    """Download a public set from PhysioNet and verify every file; stop it and run it again to go on."""
    from advisor.terminal.failures import Interrupted

    published, source, patterns = _choose(name, base_url, fs, everything)
    target = out or Path(name)
    _settle_licence(published, target, accept_license)
    try:
        done = _download(source, target, patterns, jobs)
    except KeyboardInterrupt:
        command = _command(name, out, base_url, fs, everything, jobs)
        raise Interrupted(f"go on with: {command}") from None
    fetched = done.files_done - done.files_present
    typer.echo(
        f"{done.files_done:,} files in {target}, all verified: {fetched:,} fetched, {done.files_present:,} there"
    )


def _choose(
    name: str, base_url: str | None, fs: int | None, everything: bool
) -> "tuple[PublishedSet, str, tuple[str, ...]]":
    """Return the set, the URL of its files, and the patterns of those wanted. Raises UserError for a wrong choice."""
    from advisor.terminal.failures import Failure
    from engine.download.catalogue import find_published
    from models.errors import ExitCode

    published = find_published(name)
    patterns = published.patterns(fs, everything)
    if published.files_url is None:
        raise Failure(
            f"{name} cannot be fetched, its publisher lists no SHA-256: download it from {published.url} and check it",
            ExitCode.USAGE,
        )
    if base_url is not None and not base_url.startswith(("https://", "http://")):
        raise Failure(f"--base-url {base_url} is not an http or https URL", ExitCode.USAGE)
    return published, base_url or published.files_url, patterns


def _describe(one: "PublishedSet") -> dict[str, str | int | bool]:
    return {
        "name": one.name,
        "version": one.version,
        "licence": one.licence,
        "records": one.records,
        "url": one.url,
        "fetchable": one.fetchable,
        "size": one.size,
        "citation": one.citation,
    }


def _settle_licence(published: "PublishedSet", target: Path, accepted: bool) -> None:
    """Ask once whether the licence is accepted, and remember it in the target. Raises UserError where it is not."""
    from advisor.terminal.failures import Failure
    from engine.download.http import writing
    from models.errors import ExitCode

    stamp = f"{published.name} {published.version}, {published.licence}\n"
    marker = target / ACCEPTED
    with writing(marker):
        remembered = marker.read_text(encoding="utf-8") if marker.exists() else None
        if remembered == stamp:
            return
        if remembered is not None:
            raise Failure(f"{target} holds {remembered.strip()}: choose another folder with --out", ExitCode.USAGE)
        _ask(published, accepted)
        target.mkdir(parents=True, exist_ok=True)
        marker.write_text(stamp, encoding="utf-8")


def _ask(published: "PublishedSet", accepted: bool) -> None:
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    typer.echo(f"{published.name} {published.version}: {published.records:,} records, {published.size}", err=True)
    typer.echo(f"licence:  {published.licence}, {published.licence_url}", err=True)
    typer.echo(f"citation: {published.citation}", err=True)
    if accepted:
        return
    if not _can_ask():
        raise Failure(f"the licence of {published.name} is to be accepted: add --accept-license", ExitCode.USAGE)
    if not typer.confirm("Do you accept this licence?", err=True):
        raise Failure("the licence is not accepted, so nothing was fetched", ExitCode.FAILURE)


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _download(base_url: str, target: Path, patterns: tuple[str, ...], jobs: int | None) -> "Progress":
    from engine.download.tree import DEFAULT_JOBS, fetch_tree

    with _drawn() as report:
        return fetch_tree(base_url, target, patterns, jobs or DEFAULT_JOBS, report)


@contextmanager
def _drawn() -> "Iterator[Callable[[Progress], None]]":
    """Give a callback that draws the progress on a terminal, and does nothing elsewhere."""
    from advisor.terminal.lines import draws_progress

    if not draws_progress():
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Drawing

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files, {task.fields[megabytes]:,.1f} MB,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Drawing(*columns, console=Console(stderr=True)) as drawing:
        task = drawing.add_task("", total=None, megabytes=0.0)

        def report(progress: "Progress") -> None:
            drawing.update(
                task,
                total=progress.files_total,
                completed=progress.files_done,
                megabytes=progress.bytes_received / 1e6,
            )

        yield report


def _command(
    name: str, out: Path | None, base_url: str | None, fs: int | None, everything: bool, jobs: int | None
) -> str:
    """Return the command line that goes on; the licence is accepted by then."""
    words = ["ecgadvise", "data", "fetch", name]
    words += ["--out", str(out)] if out else []
    words += ["--base-url", base_url] if base_url else []
    words += ["--fs", str(fs)] if fs else []
    words += ["--all"] if everything else []
    words += ["--jobs", str(jobs)] if jobs else []
    return shlex.join(words)
