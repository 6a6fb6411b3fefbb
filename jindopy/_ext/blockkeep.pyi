"""Start, upkeep and end of a store: everything here is for other native modules."""
