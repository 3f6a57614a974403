"""Records on disk as a prepared corpus, its splits and its tasks."""
