"""FILETIME: 100 nanoseconds since 1601 in UTC ([MS-DTYP] 2.3.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_MAX_FILETIME = 2650467743999999999  # the end of the year 9999


def from_filetime(value: int) -> datetime:
    """Convert a FILETIME; values outside the years 1601 to 9999 give 1601."""
    return _EPOCH + timedelta(microseconds=value // 10 if 0 <= value <= _MAX_FILETIME else 0)


def to_filetime(moment: datetime) -> int:
    """Convert a time to a FILETIME, to the microsecond."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10
