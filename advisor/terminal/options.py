"""Options that several commands have."""

from typing import Annotated

import typer

Seconds = Annotated[
    float | None, typer.Option(help="What of each record is used, from its start: 1 to 120 s. [default: 10]")
]
Rate = Annotated[
    float | None, typer.Option("--fs", help="What records are resampled to: 50 to 1000 Hz. [default: 100]")
]
