"""Whether what flatline prescribes repairs a training: ``python -m benchmarks.repair``."""
