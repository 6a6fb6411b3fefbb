"""An OSS-compatible server for demo, tests and benchmarks.

It knows nothing of ``ufs``: else one wrong signature would agree with itself.  Foreign clients are the judges.
"""
