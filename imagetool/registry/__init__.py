"""Registry hives: cells, keys and values."""
