"""Recordings in files of plain numbers, which a description next to them explains."""
