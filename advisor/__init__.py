"""Questions in, answers out: the command line and the advice."""
