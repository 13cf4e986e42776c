"""What is kept of runs: a SQLite store, its writer, and what is read back."""
