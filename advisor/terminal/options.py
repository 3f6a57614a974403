"""Options that several commands have."""

from typing import Annotated

import typer

Seconds = Annotated[
    float | None, typer.Option(help="What of each record is used, from its start: 1 to 120 s. [default: 10]")
]
Rate = Annotated[
    float | None, typer.Option("--fs", help="What records are resampled to: 50 to 1000 Hz. [default: 100]")
]
TestFraction = Annotated[
    float | None,
    typer.Option(help="Share of the records kept for the test, 0.05 to 0.5. [default: the publisher's fold, else 0.2]"),
]
TestSeed = Annotated[
    int | None,
    typer.Option(
        min=0, max=1_000_000, help="Draws the records kept for the test. [default: the publisher's fold, else 0]"
    ),
]
