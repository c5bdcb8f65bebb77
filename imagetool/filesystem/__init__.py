"""Volumes: NTFS read by its index trees."""
