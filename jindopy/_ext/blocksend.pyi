"""Where a store's blocks lie, for other native modules that send them; nothing here is for Python."""
