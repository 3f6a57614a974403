"""The training engine: from records on disk to a trained, measured network."""
