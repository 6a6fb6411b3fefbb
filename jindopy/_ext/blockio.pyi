"""Reading, checking and writing blocks: everything here is for other native modules."""
