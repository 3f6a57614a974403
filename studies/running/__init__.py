"""From a design to runs: plan, workers, what a failure does."""
