"""From a store of runs to the curves file, its backtest and its summary."""
