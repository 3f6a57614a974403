"""What the runs say of the claims of the study that they regenerate."""
