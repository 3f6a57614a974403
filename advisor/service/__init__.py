"""The analysis service: the command line's answers, jobs and predictions over HTTP, and a page for those who decide."""
