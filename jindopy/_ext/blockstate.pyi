"""The state of one block store: everything here is for other native modules."""
