"""The findings on the pre-trained network."""
