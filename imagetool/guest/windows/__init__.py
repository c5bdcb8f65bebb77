"""Windows in a guest image: an installation, its facts, and its integration components."""
