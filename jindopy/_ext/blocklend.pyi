"""Cache files whose bytes others read by themselves: for native callers only."""
