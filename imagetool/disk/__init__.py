"""Bytes: files, virtual disks (VHDX), partition tables; sources stacked on sources."""
