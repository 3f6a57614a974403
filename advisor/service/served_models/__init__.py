"""Models that the service predicts with, what they were given, and whether that is like what they know."""
