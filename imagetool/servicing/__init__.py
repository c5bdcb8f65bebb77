"""Servicing of an image: applicability, plan, inject, verify."""
