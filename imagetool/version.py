"""The version of imagetool."""

__version__ = "0.1.0"
