"""imagetool: what a guest image holds, whether it is what it should be, and putting it right."""

__version__ = "0.1.0"
