"""A pilot on the asker's records: its study, its folders, and what it changes in an answer."""
