"""Tasks: one kind of output a file."""
