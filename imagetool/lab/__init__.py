"""An emulated Hyper-V host, for rehearsals and tests."""
