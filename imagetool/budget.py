"""The budget of a question: how much the tables of one image or package may become in memory.

Every format has the shape "many entries that name one object": a small file describes gigabytes,
and no bound on one item helps. So a source carries a budget, which is the same for all that is
stacked on it, and readers spend from it where a page, a list or a decompressed unit becomes
objects. Data that streams to its reader costs nothing: its own size bounds it.
"""

from __future__ import annotations

from types import TracebackType

from imagetool.errors import BudgetSpent

MAX_OBJECTS = 120_000
"""Objects of one question: keys, values, entries of directories, runs, subjects, elements."""
MAX_BYTES = 16 << 20
"""Bytes of one question that are decoded and kept: values, tables, decompressed units."""
MAX_DEPTH = 64
"""Levels of a tree: far above what a system writes, far below what Python's stack bears."""


class Budget:
    """What has been spent on the present question. `with budget:` is a question, also a nested one.

    Outside of a question each expense stands alone: an image that stays open never runs dry.
    """

    __slots__ = ("_nesting", "bytes", "objects")

    def __init__(self) -> None:
        self._nesting = 0
        self.objects = 0
        self.bytes = 0

    def __enter__(self) -> Budget:
        if not self._nesting:
            self.objects = self.bytes = 0
        self._nesting += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._nesting -= 1

    def spend(self, name: str, objects: int, size: int = 0) -> None:
        """Spend on `objects` and `size` bytes of what `name` holds. Raises BudgetSpent."""
        if not self._nesting:
            self.objects = self.bytes = 0
        self.objects += objects
        self.bytes += size
        if self.objects > MAX_OBJECTS or self.bytes > MAX_BYTES:
            raise BudgetSpent(
                f"{name}: its tables describe more than an answer may take "
                f"({MAX_OBJECTS:,} objects, {MAX_BYTES >> 20} MB)",
                hint="Ask for less at once; if it asks for little, it is damaged or made to harm.",
            )

    def check_depth(self, name: str, depth: int) -> None:
        """Raise BudgetSpent for a tree of more than MAX_DEPTH levels."""
        if depth > MAX_DEPTH:
            raise BudgetSpent(
                f"{name}: a tree in it has more than {MAX_DEPTH} levels",
                hint="It is damaged, or made to harm: compare it with its origin.",
            )
