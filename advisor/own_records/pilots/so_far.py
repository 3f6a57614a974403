"""What a pilot would answer from the pairs that are complete so far, for whoever watches it."""

import time
from collections.abc import Callable

from advisor.answer.recommend import Recommendation
from models.errors import UserError
from studies.running.progress import Progress

_REST = 10.0  # times as long as the last answer took, before the next one is looked for


class SoFar:
    """Tells the answer each time that another pair is complete, unless that would take a tenth of the pilot's time.

    ``pairs`` counts those that are complete, ``answer`` is asked for what they say.
    """

    def __init__(
        self, pairs: Callable[[], int], answer: Callable[[], Recommendation],
        tell: Callable[[Recommendation | None], None], clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._pairs, self._answer, self._tell, self._clock = pairs, answer, tell, clock
        self._told, self._done, self._not_before = 0, -1, -1.0

    def after(self, report: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return what reports a pilot's progress and then tells the answer."""

        def reported(progress: Progress) -> None:
            report(progress)
            if progress.done != self._done and self._clock() >= self._not_before:
                self._done = progress.done
                self._look()

        return reported

    def _look(self) -> None:
        if (pairs := self._pairs()) == self._told:
            return
        began, self._told = self._clock(), pairs
        try:
            answer = self._answer()
        except UserError:  # too few pairs as yet, or what the pilot will say itself at its end
            answer = None
        self._tell(answer)
        ended = self._clock()
        self._not_before = ended + _REST * (ended - began)
