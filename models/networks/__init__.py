"""The networks, one family a file; ``models.registry`` finds them."""
