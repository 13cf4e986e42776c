"""Claims about dead neurons as experiments that anyone can rerun."""
