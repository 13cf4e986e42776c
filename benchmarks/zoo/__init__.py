"""A zoo of labelled trainings: what is wrong with each is known from how it was made.

``python -m benchmarks.zoo --list`` names them; ``python -m benchmarks.zoo`` runs and scores them.
"""
