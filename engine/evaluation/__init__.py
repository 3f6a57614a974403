"""Scores, their intervals, calibration and subgroups."""
