"""How far a command is, for the program that started it: one JSON object in the file that ECGADVISE_PROGRESS names.

    {"what": "runs", "done": 6, "total": 24, "seconds_left": 310, "words": "runs 6 of 24 done, ...", "verdict": null}

``what`` is ``records``, ``epochs`` or ``runs``; ``seconds_left`` is null where nothing is known of the pace, and
``verdict`` what a pilot would answer from the pairs that are complete so far. The file is always whole.
"""

import json
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.answer.words import headline

if TYPE_CHECKING:
    from advisor.answer.recommend import Recommendation

VARIABLE = "ECGADVISE_PROGRESS"
_A_SECOND = 4  # writings


class ProgressFile:
    """Keeps the file at ``path`` up to date; the command goes on where that is not possible."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._document: dict[str, Any] = {}
        # When it was last written: a few changes at once are all written, so that none waits for the next one.
        self._written: deque[float] = deque(maxlen=_A_SECOND)
        self._began: tuple[str, int, float] | None = None

    def report(
        self, what: str, done: int, total: int, words: str, seconds_left: float | None = None, *, at_once: bool = False
    ) -> None:
        """Say how far it is; where ``seconds_left`` is not known, by the pace since the first report of its kind."""
        if seconds_left is None:
            seconds_left = self._by_pace(what, done, total)
        rounded = None if seconds_left is None else round(max(0.0, seconds_left))
        self._document |= {"what": what, "done": done, "total": total, "seconds_left": rounded, "words": words}
        self._write(at_once or done >= total)

    def tell(self, answer: "Recommendation | None") -> None:
        """Say what the answer would be now, None where there is none yet."""
        self._document["verdict"] = None if answer is None else verdict_of(answer)
        self._write(at_once=True)

    def close(self) -> None:
        """Write what was not."""
        self._write(at_once=True)

    def _by_pace(self, what: str, done: int, total: int) -> float | None:
        now = time.monotonic()
        if self._began is None or self._began[0] != what:
            self._began = what, done, now
        _, before, since = self._began
        return (now - since) / (done - before) * (total - done) if done > before else None

    def _write(self, at_once: bool) -> None:
        now = time.monotonic()
        is_soon = len(self._written) == _A_SECOND and now - self._written[0] < 1
        if not self._document.get("what") or (is_soon and not at_once):
            return
        self._written.append(now)
        new = self.path.with_name(f".{self.path.name}.new")
        try:
            new.write_text(json.dumps({"verdict": None, **self._document}), encoding="utf-8")
            new.replace(self.path)
        except OSError:
            return  # whoever waits for it sees an older one: that is no reason to end hours of work


def progress_file() -> ProgressFile | None:
    """Return the file that the environment asks for, None where it asks for none."""
    path = os.environ.get(VARIABLE)
    return ProgressFile(Path(path).absolute()) if path else None


def verdict_of(answer: "Recommendation") -> dict[str, Any]:
    """Return an answer as short as it gets: what is best, why, and on how many pairs that rests."""
    return {
        "best": answer.best.strategy,
        "headline": headline(answer)[0],
        "verdict": answer.verdict,
        "why": answer.why,
        "pairs": answer.curve.runs // 2,
    }
