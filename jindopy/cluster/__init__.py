"""What every process of a cluster must agree on: who is there, and who should hold what."""
