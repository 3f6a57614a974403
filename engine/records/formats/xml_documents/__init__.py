"""Recordings in XML documents, one vendor's or standard's form a file."""
