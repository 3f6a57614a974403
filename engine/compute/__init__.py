"""How fast: devices, clocks, optimisation steps."""
