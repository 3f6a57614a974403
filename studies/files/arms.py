"""The arms that a curve compares."""

FINE_TUNE, SCRATCH = "fine-tune", "scratch"
