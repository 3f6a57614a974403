"""The evidence: designs, runs, and the curves fitted to them."""
