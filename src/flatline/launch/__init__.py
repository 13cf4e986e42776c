"""The command line, and running a person's program as plain ``python`` would."""
