"""One recording: its signal, units, leads and header."""
