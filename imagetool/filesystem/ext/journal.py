"""The journal of an ext volume: Linux kernel documentation, "Journal (jbd2)".

Its log is gone through from the tail on, transaction by transaction, up to the first that is not
complete. A block that no later transaction revokes is to be read from the log in place of the
volume. What the kernel refuses to replay is refused here as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from imagetool.disk.declarations import ConstructError
from imagetool.errors import Corrupt, Unsupported
from imagetool.filesystem.ext import jbd2

if TYPE_CHECKING:
    from imagetool.disk.extents import ExtentMap
    from imagetool.filesystem.ext.blocks import BlockMapData

_MAX_LOG_SIZE = 32 << 20
"""Of the part of a log that is replayed, in bytes."""
_MAX_REVOKES = 1 << 17
_READ_SIZE = 1 << 18
_ENTRIES_PER_OBJECT = 8
_ALL_ONES = 0xFFFFFFFF
_DAMAGED = "Mount the volume once, or let the guest check it (fsck)."


class LoggedBlock(NamedTuple):
    """A block in the log, of a transaction: its number in the log, and what its tag says."""

    transaction: int
    log_block: int
    tag: jbd2.Tag


@dataclass(slots=True)
class Transactions:
    """The transactions of a log that are complete; or what has been read of one."""

    end: int
    """The sequence number behind the last one."""
    blocks: list[LoggedBlock] = field(default_factory=list)
    revoked: dict[int, int] = field(default_factory=dict)
    """The last transaction that revokes a block, by the block's number in the volume."""
    torn: bool = False
    """True if the one at `end` was left out because its checksum is wrong."""


class Replay(NamedTuple):
    """What the log says of a volume: the offsets of blocks in it, by their numbers."""

    offsets: dict[int, int]
    escaped: set[int]
    transactions: Transactions
    has_fast_commits: bool


class Journal:
    """A journal, by the content of its inode. Raises Corrupt, Unsupported."""

    def __init__(self, data: ExtentMap | BlockMapData, block_size: int) -> None:
        self._data = data
        self._block_size = block_size
        self._window = b""
        self._window_start = 0
        raw = data.read_at(0, jbd2.SUPERBLOCK_SIZE)
        try:
            block = jbd2.SuperBlock.parse(raw)
        except ConstructError:
            raise self._damaged("its superblock is cut off") from None
        if block.magic != jbd2.MAGIC or block.block_type not in jbd2.SUPERBLOCKS:
            raise self._damaged("it has no superblock")
        has_features = block.block_type == jbd2.SUPERBLOCKS[1]
        self._incompatible = block.incompatible if has_features else 0
        self._sums_transactions = has_features and bool(block.compatible & jbd2.HAS_CHECKSUM)
        self._sums_blocks = bool(self._incompatible & jbd2.HAS_BLOCK_CHECKSUMS)
        self._check_features(block, raw)
        self._seed = jbd2.crc32c(_ALL_ONES, block.uuid)
        self._first: int = block.first
        self._end: int = block.block_count
        if block.block_size != block_size or self._end * block_size > data.size:
            raise self._damaged(f"it states {self._end} blocks of {block.block_size} bytes")
        self._has_fast_commits = bool(self._incompatible & jbd2.HAS_FAST_COMMITS)
        if self._has_fast_commits:
            count = block.fast_commit_blocks or jbd2.DEFAULT_FAST_COMMIT_BLOCKS
            if self._end - count >= jbd2.MIN_BLOCKS:
                self._end -= count
        self._start: int = block.start
        self._sequence: int = block.sequence
        if not 0 < self._first < self._end:
            raise self._damaged(f"its log begins at block {self._first} of {self._end}")
        if self._start and not self._first <= self._start < self._end:
            raise self._damaged(f"the tail of its log is block {self._start} of {self._end}")

    @property
    def is_empty(self) -> bool:
        """True if all is in the volume already."""
        return not self._start

    def replay(self, volume_blocks: int) -> Replay:
        """What is to be read from the log, in a volume of so many blocks."""
        transactions = self._scan()
        offsets: dict[int, int] = {}
        escaped: set[int] = set()
        for logged in transactions.blocks:
            tag, number = logged.tag, logged.log_block
            revoked = transactions.revoked.get(tag.block)
            if revoked is not None and not _is_later(logged.transaction, revoked):
                continue
            if tag.block >= volume_blocks:
                raise self._damaged(f"block {tag.block} in it lies beyond the volume")
            if self._sums_blocks and not self._tag_fits(logged):
                raise self._damaged(f"the checksum of its block {number} is wrong")
            found = self._data.extents(number * self._block_size, self._block_size)
            if len(found) != 1 or found[0][0] < 0:
                raise self._damaged(f"its block {number} is a hole")
            offsets[tag.block] = found[0][0]
            (escaped.add if tag.flags & jbd2.ESCAPED else escaped.discard)(tag.block)
        return Replay(
            offsets, escaped, transactions, self._is_followed_by_fast_commits(transactions.end)
        )

    def _check_features(self, block: Any, raw: bytes) -> None:
        unknown = self._incompatible & ~jbd2.READABLE_FEATURES
        if unknown:
            raise Unsupported(f"{self._data.name}: feature 0x{unknown:x} is not read")
        both = self._incompatible & jbd2.HAS_BLOCK_CHECKSUMS == jbd2.HAS_BLOCK_CHECKSUMS
        if both or (self._sums_blocks and self._sums_transactions):
            raise self._damaged("its superblock names two kinds of checksums")
        if self._sums_blocks:
            computed = jbd2.crc32c(_ALL_ONES, jbd2.without_checksum(raw, jbd2.CHECKSUM_OFFSET))
            if block.checksum_type != jbd2.CRC32C or computed != block.checksum:
                raise self._damaged("the checksum of its superblock is wrong")

    def _damaged(self, what: str) -> Corrupt:
        return Corrupt(f"{self._data.name}: {what}", hint=_DAMAGED)

    # The log

    def _read_block(self, number: int) -> bytes:
        """A block of the log, read with those behind it."""
        size = self._block_size
        inside = (number - self._window_start) * size
        if not 0 <= inside < len(self._window):
            length = min(max(_READ_SIZE, size), self._data.size - number * size)
            self._window, self._window_start = self._data.read_at(number * size, length), number
            inside = 0
        block = self._window[inside : inside + size]
        if len(block) != size:
            raise self._damaged(f"its block {number} lies beyond the end of the image")
        return block

    def _following(self, number: int, count: int = 1) -> int:
        """The number of the block that is `count` behind another in the log, which is a ring."""
        return self._first + (number - self._first + count) % (self._end - self._first)

    def _scan(self) -> Transactions:
        """Read the log up to the first transaction that is not complete."""
        done, position = Transactions(self._sequence), self._start
        new, following = Transactions(self._sequence), self._sequence
        suspect, last_time, checksum, seen = False, 0, _ALL_ONES, 0
        while True:
            block = self._read_block(position)
            magic, kind, sequence = jbd2.HEADER.unpack_from(block)
            if magic != jbd2.MAGIC or sequence != following:
                return done
            position = self._following(position)
            tags = jbd2.parse_tags(block, self._incompatible) if kind == jbd2.DESCRIPTOR else []
            seen += 1 + len(tags)
            self._check_length(seen)
            if kind == jbd2.DESCRIPTOR:
                suspect |= not self._tail_fits(block)
                checksum = self._add_to_checksum(checksum, block)
                for tag in tags:
                    new.blocks.append(LoggedBlock(following, position, tag))
                    if self._sums_transactions:
                        checksum = self._add_to_checksum(checksum, self._read_block(position))
                    position = self._following(position)
            elif kind == jbd2.REVOKE:
                suspect |= not self._tail_fits(block)
                self._add_revokes(new, following, block)
            elif kind == jbd2.COMMIT:
                fields = jbd2.CommitBlock(*jbd2.COMMIT_BLOCK.unpack_from(block))
                fits = not suspect and self._commit_fits(block, fields, checksum)
                if not fits and fields.seconds < last_time:
                    return done  # left of an older log
                # One that may have been interrupted is the last one.
                asynchronous = self._incompatible & jbd2.HAS_ASYNC_COMMITS
                if suspect or done.torn or not (fits or asynchronous):
                    raise self._damaged(f"the checksum of transaction {following} is wrong")
                done.torn = not fits
                if done.torn and self._sums_blocks:
                    return done
                following = (following + 1) & _ALL_ONES
                last_time, checksum = fields.seconds, _ALL_ONES
                if fits:
                    self._complete(done, new, following)
                new = Transactions(following)
            else:
                return done

    def _check_length(self, seen: int) -> None:
        """Raise Unsupported or Corrupt where so many blocks of the log cannot be replayed."""
        if seen * self._block_size > _MAX_LOG_SIZE:
            raise Unsupported(
                f"{self._data.name}: its log holds more than {_MAX_LOG_SIZE >> 20} MB",
                hint=_DAMAGED,
            )
        if seen > self._end - self._first + 1:
            raise self._damaged("its log leads back to itself")

    def _add_revokes(self, new: Transactions, transaction: int, block: bytes) -> None:
        found = jbd2.parse_revokes(block, self._incompatible)
        if found is None:
            raise self._damaged(f"transaction {transaction} revokes more than its block holds")
        self._spend(len(found))
        new.revoked.update(dict.fromkeys(found, transaction))
        if len(new.revoked) > _MAX_REVOKES:
            raise Unsupported(f"{self._data.name}: it revokes more than {_MAX_REVOKES} blocks")

    def _complete(self, done: Transactions, new: Transactions, end: int) -> None:
        self._spend(len(new.blocks))
        done.blocks += new.blocks
        done.revoked |= new.revoked
        done.end = end

    def _spend(self, entries: int) -> None:
        self._data.budget.spend(self._data.name, entries // _ENTRIES_PER_OBJECT)

    # Checksums

    def _add_to_checksum(self, checksum: int, block: bytes) -> int:
        return jbd2.crc32(checksum, block) if self._sums_transactions else checksum

    def _tail_fits(self, block: bytes) -> bool:
        """True if the checksum at the end of a descriptor or revocation block is right."""
        if not self._sums_blocks:
            return True
        offset = len(block) - jbd2.CHECKSUM_TAIL_SIZE
        computed = jbd2.crc32c(self._seed, jbd2.without_checksum(block, offset))
        return computed == int.from_bytes(block[offset:], "big")

    def _commit_fits(self, block: bytes, fields: jbd2.CommitBlock, checksum: int) -> bool:
        if self._sums_transactions:
            stored = fields.checksum_type, fields.checksum_size, fields.checksum
            return stored in ((jbd2.CRC32, jbd2.CRC32_SIZE, checksum), (0, 0, 0))
        if not self._sums_blocks:
            return True
        plain = jbd2.without_checksum(block, jbd2.COMMIT_CHECKSUM_OFFSET)
        # Of a block of several sectors the first alone may have been written.
        partial = plain[: jbd2.COMMIT_BLOCK.size].ljust(len(plain), b"\0")
        return fields.checksum in (jbd2.crc32c(self._seed, plain), jbd2.crc32c(self._seed, partial))

    def _tag_fits(self, logged: LoggedBlock) -> bool:
        seed = jbd2.crc32c(self._seed, logged.transaction.to_bytes(4, "big"))
        computed = jbd2.crc32c(seed, self._read_block(logged.log_block))
        if self._incompatible & jbd2.HAS_CHECKSUM_2:
            computed &= 0xFFFF
        return computed == logged.tag.checksum

    def _is_followed_by_fast_commits(self, end: int) -> bool:
        """True if fast commits come behind the last transaction."""
        if not self._has_fast_commits:
            return False
        block = self._read_block(self._end + 1)
        tag, _, _, transaction = jbd2.FAST_COMMIT_HEAD.unpack_from(block)
        return bool((tag, transaction) == (jbd2.FAST_COMMIT_HEAD_TAG, end))


def _is_later(transaction: int, other: int) -> bool:
    """True if a sequence number, which wraps, is later than another."""
    return 0 < (transaction - other) & _ALL_ONES < 1 << 31
