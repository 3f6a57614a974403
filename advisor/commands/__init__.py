"""One file a verb: arguments in, rendering out."""
