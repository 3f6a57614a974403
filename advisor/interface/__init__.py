"""What ``import ecgadvise`` offers to Python code; ``ecgadvise`` loads a module of these when a name of it is used."""
