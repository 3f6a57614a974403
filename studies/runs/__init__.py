"""One run: its specification, its record, the store and the pairs."""
