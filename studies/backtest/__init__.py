"""How good the advice is on runs that it has not seen: what is held out, what was measured of it, how it is scored."""
