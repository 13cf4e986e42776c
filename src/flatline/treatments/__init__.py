"""What can be changed about a training so that its units live: one registry, and one seam."""
