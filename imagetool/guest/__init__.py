"""The contents of a guest image: installations, facts and evidence."""
