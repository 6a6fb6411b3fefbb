"""Small ideas everything stands on, one a file; imports nothing of jindopy outside itself."""
