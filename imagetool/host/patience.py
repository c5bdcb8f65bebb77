"""Asking again, where an answer of the host means "not yet" and nothing else.

Windows shows a new disk and its partitions some time after Mount-VHD, and scanners hold a file for
a while after its dismount.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from imagetool.contracts import Event, OnEvent
from imagetool.host.answers import CmdletFailed

T = TypeVar("T")

_SHARING_VIOLATION = 0x80070020
_NOT_FOUND_IDS = "CmdletizationQuery_NotFound"
_IN_USE_ID = "ObjectInUse"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


def is_not_there_yet(error: CmdletFailed) -> bool:
    """True for the failure of a Storage cmdlet that finds no such disk, partition or volume."""
    return error.error_id.startswith(_NOT_FOUND_IDS)


def is_in_use(error: CmdletFailed) -> bool:
    """True for the failure of what meets a file that somebody has open."""
    return error.hresult == _SHARING_VIOLATION or error.error_id.startswith(_IN_USE_ID)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is asked again, in seconds, and who is told that it takes so long."""

    device_seconds: float = 30.0
    """For disks and partitions that are not there yet."""
    file_seconds: float = 120.0
    """For files that are not let go of yet, and processes of DISM that have not ended."""
    on_event: OnEvent | None = None

    def for_device(self, what: str, ask: Callable[[], T | None]) -> T | None:
        """Call `ask` until it finds something; None where time runs out before.

        Nothing found and a failure that says so mean "not yet". Raises any other failure at once.
        """
        return self._ask_again(what, ask, self.device_seconds, is_not_there_yet)

    def for_file(self, what: str, ask: Callable[[], T | None]) -> T | None:
        """As for_device, where a file that is in use means "not yet"."""
        return self._ask_again(what, ask, self.file_seconds, is_in_use)

    def _ask_again(
        self,
        what: str,
        ask: Callable[[], T | None],
        seconds: float,
        means_not_yet: Callable[[CmdletFailed], bool],
    ) -> T | None:
        end, pause, told = time.monotonic() + seconds, _FIRST_PAUSE, False
        while True:
            failure = None
            try:
                found = ask()
                if found is not None:
                    return found
            except CmdletFailed as error:
                if not means_not_yet(error):
                    raise
                failure = error
            if time.monotonic() + pause > end:
                if failure is not None:
                    raise failure
                return None
            if not told and self.on_event is not None:
                told = True
                self.on_event(Event("waiting", f"waiting for {what}, up to {seconds:.0f} s"))
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


NO_PATIENCE = Patience(0.0, 0.0)
"""Each question is asked once."""
