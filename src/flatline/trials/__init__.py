"""Controlled trials: treatments against an untreated control on the same work and seeds."""
