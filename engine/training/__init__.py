"""From a starting point to a trained network."""
