"""Where the evidence that ships lies."""

from pathlib import Path

EVIDENCE = Path(__file__).parents[1] / "evidence"
DEFAULT_CURVES = EVIDENCE / "atlas" / "curves.json"
DEFAULT_RUNS = DEFAULT_CURVES.with_name("runs.csv")
