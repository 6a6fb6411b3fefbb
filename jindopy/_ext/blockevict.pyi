"""Making room: everything here is for other native modules."""
