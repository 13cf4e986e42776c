"""One module per experiment; each holds its :data:`EXPERIMENT`."""
