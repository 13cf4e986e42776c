"""The live page: stored runs and those in progress, served on this machine alone."""
