"""What the units do while training runs: pulse, exams, loss and learning rate."""
