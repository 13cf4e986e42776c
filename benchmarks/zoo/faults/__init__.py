"""The faults, by what is done wrong."""
