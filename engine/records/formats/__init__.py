"""Recordings in the formats that devices and archives export, one format a file."""
