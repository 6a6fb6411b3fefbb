"""The storage behind the cache: one small driver interface, its drivers, and layers that wrap any of them."""
