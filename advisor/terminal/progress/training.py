"""A training on stderr: a bar on a terminal, a line at each validation elsewhere; Ctrl-C asks it to end.

Where a program asks for it (``advisor.terminal.progress.file``), it is written to a file as well.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from types import FrameType
from typing import TYPE_CHECKING

import typer

from advisor.terminal.lines import draws_progress, is_quiet
from advisor.terminal.progress.file import ProgressFile, progress_file

if TYPE_CHECKING:
    from rich.progress import Progress

    from engine.training.loop import Validation

_STOPPING = "stopping after this epoch; Ctrl-C again stops at once and keeps nothing of it"
_LONG = 10.0  # seconds that say something about the next epoch although the first one is in them


class Watch:
    """Follows a training of ``epochs`` epochs; ``done`` are behind it, with the validation AUROC ``best``."""

    def __init__(
        self, epochs: int, done: int, best: float, bar: "Progress | None", file: ProgressFile | None = None
    ) -> None:
        self.epochs = epochs
        self.done = self._first = self._ended = done
        self.best = best
        self.stopping = False
        self._started = self._first_ended = time.monotonic()
        self._bar, self._file, self._words = bar, file, "no validation yet"
        self._task = bar.add_task("", total=epochs, completed=done, words="") if bar is not None else None

    def should_stop(self) -> bool:
        """Count an epoch, after each of which this is asked; say whether Ctrl-C was pressed."""
        self._ended += 1
        self._advance(self._ended)
        return self.stopping

    def report(self, validation: "Validation") -> None:
        """Show how the network does on the validation records."""
        self._advance(validation.epoch)
        self.best = validation.auroc if isnan(self.best) else max(self.best, validation.auroc)
        auroc = "unknown" if isnan(validation.auroc) else f"{validation.auroc:.3f} (best {self.best:.3f})"
        words = self._words = f"loss {validation.training_loss:.4f}, validation AUROC {auroc}"
        self._write()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, words=words.replace("validation AUROC", "AUROC"))  # 80 columns
        elif not is_quiet():
            typer.echo(f"epoch {validation.epoch} of {self.epochs}: {words}{self._left()}", err=True)

    def _advance(self, epoch: int) -> None:
        if epoch <= self.done:
            return
        self.done = epoch
        if self.done - self._first == 1:
            self._first_ended = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=epoch)
        self._write()

    def _write(self) -> None:
        if self._file is not None:
            self._file.report("epochs", self.done, self.epochs, self._words, self._seconds_left())

    def _seconds_left(self) -> float | None:
        """Judge by what came after the first epoch, which takes longer than the others, once there was more."""
        now, epochs = time.monotonic(), self.done - self._first
        if epochs < 2 and now - self._started < _LONG:
            return None
        each = (now - self._first_ended) / (epochs - 1) if epochs > 1 else now - self._started
        return each * (self.epochs - self.done)

    def _left(self) -> str:
        if (left := self._seconds_left()) is None:
            return ""
        seconds = round(left)
        return f", {seconds} s left" if seconds < 120 else f", {round(seconds / 60)} min left"


@contextmanager
def watched(epochs: int, done: int = 0, best: float = float("nan")) -> Iterator[Watch]:
    """Give a Watch that draws on stderr; the first Ctrl-C inside sets ``stopping``, the second is KeyboardInterrupt."""
    bar = _bar() if draws_progress() else None
    file = progress_file()
    watch = Watch(epochs, done, best, bar, file)

    def stop(_number: int, _frame: FrameType | None) -> None:
        if watch.stopping:
            raise KeyboardInterrupt
        watch.stopping = True
        typer.echo(_STOPPING, err=True)

    before = signal.signal(signal.SIGINT, stop)
    try:
        if bar is None:
            yield watch
        else:
            with bar:
                yield watch
    finally:
        signal.signal(signal.SIGINT, before)
        if file is not None:
            file.close()


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=8),
        MofNCompleteColumn(),
        TextColumn("epochs, {task.fields[words]},"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    return Progress(*columns, console=Console(stderr=True))
