"""From a store of runs to the curves file and its summary."""
