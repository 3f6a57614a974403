"""How far a study is, on stderr: two lines that renew themselves on a terminal, one line a run elsewhere.

Where a program asks for it (``advisor.terminal.progress.file``), it is written to a file as well.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from advisor.terminal.lines import draws_progress, is_quiet
from advisor.terminal.progress.file import ProgressFile, progress_file
from engine.recipes import DEFAULT_RECIPE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from studies.running.progress import Progress


@contextmanager
def study_progress(file: ProgressFile | None = None) -> "Iterator[Callable[[Progress], None]]":
    """Give what a study reports to; ``file`` is the one that the environment asks for where none is given."""
    file = file or progress_file()
    with _drawn() as draw:
        if file is None:
            yield draw
            return

        def report(progress: "Progress") -> None:
            draw(progress)
            done = progress.done + progress.failed
            file.report("runs", done, progress.total, summary(progress), progress.seconds_left())

        try:
            yield report
        finally:
            file.close()


@contextmanager
def _drawn() -> "Iterator[Callable[[Progress], None]]":
    if not draws_progress():
        yield _Lines().report
        return
    from rich.console import Console
    from rich.live import Live

    screen = _Screen()
    with Live(get_renderable=screen.draw, console=Console(stderr=True), refresh_per_second=2) as live:
        screen.live = live
        yield screen.report


def says_time_left() -> bool:
    """Whether anybody is told how long the rest takes, which is worth weighing runs for."""
    return sys.stderr.isatty() or progress_file() is not None


def in_words(seconds: float) -> str:
    """Return a time as a person says it: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cell_line(
    task: str, arch: str, strategy: str, upstream: str | None, n_records: int, recipe: str | None, said: str
) -> str:
    """Return one cell of a study and what is said of it; a recipe that is not the usual one is named."""
    start = f" from {upstream}" if upstream else ""
    other = f", recipe {recipe}" if recipe not in (None, DEFAULT_RECIPE) else ""
    return f"{task:24} {arch:16} {strategy:13} n = {n_records:<6} {said}{start}{other}"


def summary(progress: "Progress") -> str:
    """Return cells and runs done, running and failed, and the time left."""
    words = [
        f"cells {progress.cells_done} of {progress.cells}",
        f"runs {progress.done} of {progress.total} done",
        f"{progress.running} running",
        f"{progress.failed} failed",
    ]
    if progress.elsewhere:
        words.append(f"{progress.elsewhere} in another runner")
    if (left := progress.seconds_left()) is not None:
        words.append(f"about {in_words(left)} left")
    return ", ".join(words)


class _Lines:
    """A line for every run that ended or is tried again."""

    def __init__(self) -> None:
        self._said: tuple[int, int, str] | None = None

    def report(self, progress: "Progress") -> None:
        state = (progress.done, progress.failed, progress.last)
        if progress.last and state != self._said and not is_quiet():
            self._said = state
            typer.echo(f"{progress.done + progress.failed} of {progress.total}  {progress.last}", err=True)


class _Screen:
    """The state of the study, and the last failures above it."""

    def __init__(self) -> None:
        from rich.live import Live

        self.live: Live | None = None
        self._progress: Progress | None = None
        self._said = ""

    def report(self, progress: "Progress") -> None:
        self._progress = progress
        if self.live is not None and progress.last != self._said and progress.last.startswith(("failed", "trying")):
            self.live.console.print(progress.last, markup=False, highlight=False)
        self._said = progress.last

    def draw(self) -> "RenderableType":
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        if self._progress is None:
            return Text("")
        progress = self._progress
        bar = ProgressBar(total=max(progress.work_total, 1e-9), completed=progress.work_done, width=60)
        return Group(
            Padding(bar), Text(summary(progress)), Text(progress.last, style="dim", overflow="ellipsis", no_wrap=True)
        )
