"""Progress on a terminal: a bar with the time left on stderr, and nothing where stderr is not a terminal.

Where a program asks for it (``advisor.terminal.progress.file``), it is written to a file as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from advisor.terminal.lines import draws_progress
from advisor.terminal.progress.file import progress_file


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, total) that draws how many of a ``unit`` are done and how long the rest will take."""
    file = progress_file()
    with _drawn(unit) as draw:
        if file is None:
            yield draw
            return

        def report(done: int, total: int) -> None:
            draw(done, total)
            file.report(unit, done, total, f"{done:,} of {total:,} {unit}")

        try:
            yield report
        finally:
            file.close()


@contextmanager
def at_work(words: str) -> Iterator[None]:
    """Show on a terminal what is being done and for how long already, where nothing tells how much of it is left."""
    if not draws_progress():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn("line"), TextColumn(f"{words},"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task("", total=None)
        yield


@contextmanager
def _drawn(unit: str) -> Iterator[Callable[[int, int], None]]:
    if not draws_progress():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None, left="")
        yield lambda done, total: progress.update(task, completed=done, total=total, left="left")
