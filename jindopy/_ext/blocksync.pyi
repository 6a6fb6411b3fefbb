"""Making a store survive: everything here is for other native modules."""
