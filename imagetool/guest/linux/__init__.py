"""Linux in a guest image: an installation and its facts."""
