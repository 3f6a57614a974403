"""Public sets and their verified download."""
