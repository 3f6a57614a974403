"""What the file of a command was too long for."""
