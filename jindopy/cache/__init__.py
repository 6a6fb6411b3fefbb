"""Tiers and quotas over the native block store, and the single-flight fill from a UFS."""
