"""What is kept of runs: a SQLite store, its writer, and what is read back."""

#: What is lost where no training was seen, and where one was not treated as was asked for.
TRAINING, TREATMENTS = "the training", "the treatments"
