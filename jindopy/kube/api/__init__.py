"""The custom resources as frozen dataclasses: the one source of their schemas, of parsing and of writing them."""
