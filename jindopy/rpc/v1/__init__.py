"""Version 1 of the messages; ``gen`` is made from the ``.proto`` files by ``make generate``."""
