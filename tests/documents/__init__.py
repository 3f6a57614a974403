"""The documents: what they show, what in them is made by a program, and where their links lead."""
