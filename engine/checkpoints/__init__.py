"""What is kept of a trained network, and the released ones."""
