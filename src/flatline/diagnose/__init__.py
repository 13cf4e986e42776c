"""From vitals to states, findings and a verdict: pure functions of arrays."""
