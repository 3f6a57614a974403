"""The files that an answer is made from, read with numpy alone."""
