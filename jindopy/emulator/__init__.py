"""An OSS-compatible server for demo, tests and benchmarks; knows nothing of ``ufs``."""
