"""Disk files as a host makes and changes them: new ones, children, conversions, writes in place.

All of it is the lab's own; what reads images knows nothing of it.
"""
