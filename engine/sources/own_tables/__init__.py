"""A user's own tables next to records: how they are written, what their cells say, which record a row names."""
