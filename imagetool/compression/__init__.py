"""Decompressors of the formats that Windows uses: LZNT1, XPRESS, LZX."""
