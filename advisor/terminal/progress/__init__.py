"""How far a command is: on a terminal, in lines, and in a file for programs."""
