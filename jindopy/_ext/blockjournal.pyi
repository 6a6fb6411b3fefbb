"""A tier's index on disk: everything here is for other native modules."""
