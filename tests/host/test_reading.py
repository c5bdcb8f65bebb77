"""Files of a host, through a session that is made up: what it may answer, and what is asked."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.contracts import Files, OpenFile, Result
from imagetool.errors import CannotOpen, EmptyFile, HostFailed, NoFile
from imagetool.guest.image import open_image
from imagetool.guest.windows.drivers import file_version
from imagetool.host.answers import CmdletFailed
from imagetool.host.reading import paths
from imagetool.host.reading.batcher import MAX_TASKS, ReadBatcher
from imagetool.host.reading.files import MAX_CACHED_BYTES, HostFiles
from imagetool.host.reading.open_errors import open_error
from imagetool.host.reading.pages import MAX_REQUEST_BYTES, PAGE_SIZE
from imagetool.host.session import Session

MIB = 1 << 20
NOISE = random.Random(7).randbytes(3 * MIB + 77)


class Host:
    """A session as HostFiles uses it, over bytes at hand; remembers what was asked."""

    def __init__(self, files: dict[str, bytes], windows: bool = False) -> None:
        self.files = files
        self.on_windows = windows
        self.busy = False
        self.asked: list[tuple[str, list[tuple[int, int, int]]]] = []
        self.opened: dict[int, bytes] = {}
        self.change: Callable[[Result], None] = lambda result: None

    def operate(self, operation: str, **parameters: Any) -> Result:
        flat = parameters.get("ranges") or []
        ranges = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
        self.asked.append((operation, ranges))
        result = Result()
        if operation == "open":
            if parameters["path"] not in self.files:
                raise failure(0x80070002, "Could not find file.")
            self.opened[parameters["file"]] = self.files[parameters["path"]]
            result["size"] = len(self.opened[parameters["file"]])
            result["busy"] = self.busy
            result["written"] = datetime.now(UTC)
        elif operation == "shut":
            self.opened.pop(parameters["file"], None)
            return result
        parts = [self.opened[file][start : start + length] for file, start, length in ranges]
        result["lengths"] = [len(part) for part in parts]
        result.data = packed(b"".join(parts))
        self.change(result)
        return result

    @property
    def bytes_asked(self) -> int:
        return sum(length for _, ranges in self.asked for _, _, length in ranges)


def packed(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def failure(code: int, message: str = "No.") -> CmdletFailed:
    return CmdletFailed("open", message, code, "NotSpecified", "Id")


def files_of(host: Host, **options: Any) -> HostFiles:
    return HostFiles(cast(Session, host), "hv01", **options)


def test_it_is_a_file_among_files() -> None:
    files: Files = files_of(Host({"a": b"x" * 10}))
    file = files.open("a")
    assert isinstance(file, OpenFile)
    assert (file.name, file.path, file.size, file.warnings) == ("hv01:a", "a", 10, ())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(-5, len(NOISE) + 9),
                st.sampled_from([0, 1, 17, PAGE_SIZE, 5 * PAGE_SIZE, MIB]),
            ),
            min_size=1,
            max_size=6,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_reads_equal_slices(batches: list[list[tuple[int, int]]]) -> None:
    host = Host({"a": NOISE})
    with files_of(host).open("a", ((0, 100), (MIB, 70_000))) as file:
        for batch in batches:
            before = len(host.asked)
            expected = [NOISE[o : o + n] if o >= 0 else b"" for o, n in batch]
            assert file.read_many(batch) == expected
            large = sum(length for _, length in batch) > MAX_REQUEST_BYTES  # then one by one
            assert len(host.asked) - before <= (2 * len(batch) if large else 2)


def test_a_batch_is_one_request_and_what_is_at_hand_is_none() -> None:
    host = Host({"a": NOISE})
    file = files_of(host).open("a", ((0, 4096),))
    places = [(7 * PAGE_SIZE * place, 40) for place in range(1, 20)]
    file.read_many(places)
    assert [operation for operation, _ in host.asked] == ["open", "ranges"]
    file.read_many([*places, (0, 4096)])
    file.read_at(places[3][0] + 2 * PAGE_SIZE - 15, 10)  # the neighbours came along
    assert len(host.asked) == 2


def test_reading_on_and_on_takes_few_requests_of_bounded_size() -> None:
    data = bytes(40 * MIB)
    host = Host({"a": data})
    files = files_of(host)
    file = files.open("a")
    for offset in range(0, len(data), 65536):
        assert len(file.read_at(offset, 65536)) == 65536
    assert len(host.asked) < 25
    assert host.bytes_asked < len(data) + MIB
    assert len(file.read_at(0, len(data))) == len(data)  # at once
    assert all(sum(n for *_, n in ranges) <= MAX_REQUEST_BYTES for _, ranges in host.asked)
    assert len(files._pages) * PAGE_SIZE <= MAX_CACHED_BYTES
    assert len(file._touched) <= 3000


def test_a_closed_file_is_let_go_of_at_once_or_with_the_next() -> None:
    host = Host({"a": NOISE, "b": NOISE[::-1]})
    files = files_of(host)
    files.open("a").close()
    assert host.asked[-1][0] == "shut"
    assert not host.opened
    files = files_of(host, lazy_close=True)
    first = files.open("a")
    first.read_at(0, 9)
    first.close()
    first.close()
    second = files.open("b")
    assert len(host.opened) == 1
    assert second.read_at(0, 9) == NOISE[::-1][:9]
    second.close()
    files.close_pending()
    assert not host.opened
    with pytest.raises(CannotOpen, match="was closed"):
        first.read_at(0, 1)


def touch(file: OpenFile, places: range) -> None:
    for place in places:
        file.read_at(place * PAGE_SIZE, 10)
    file.close()


def test_what_one_image_touched_is_brought_with_the_next_as_long_as_it_helps() -> None:
    host = Host(dict.fromkeys(("a.vhdx", "b.vhdx", "c.vhdx", "d.vhdx", "x.log"), NOISE))
    files = files_of(host, lazy_close=True)
    far = range(10, 180, 17)
    touch(files.open("a.vhdx"), far)
    before = len(host.asked)
    touch(files.open("b.vhdx"), far)
    assert len(host.asked) == before + 1
    touch(files.open("x.log"), range(3))  # of another kind
    assert host.asked[-2][1] == []
    wrong = files.open("c.vhdx")
    assert host.asked[-1][1]
    touch(wrong, range(2))
    files.open("d.vhdx").close()
    assert host.asked[-1][1] == []  # it did not help, so it is not done again


def test_a_guess_is_bounded() -> None:
    host = Host({"a.raw": bytes(9 * MIB), "b.raw": bytes(9 * MIB)})
    files = files_of(host)
    file = files.open("a.raw")
    file.read_at(0, file.size)
    file.close()
    files.open("b.raw")
    assert host.asked[-1][1] == []


# Hostile answers


def bomb(result: Result) -> None:
    result.data = packed(bytes(200 * MIB))


def changed(name: str, value: object) -> Callable[[Result], None]:
    return lambda result: result.__setitem__(name, value)


def data(value: bytes) -> Callable[[Result], None]:
    return lambda result: setattr(result, "data", value)


@pytest.mark.parametrize(
    "change",
    [
        bomb,
        changed("lengths", None),
        changed("lengths", []),
        changed("lengths", [1 << 40]),
        changed("lengths", [-1]),
        changed("lengths", ["4096"]),
        changed("lengths", [PAGE_SIZE, PAGE_SIZE]),
        changed("size", -1),
        changed("size", "large"),
        changed("size", True),
        changed("size", None),
        data(b""),
        data(b"\xff\xff\xff"),
        data(packed(NOISE)[:100]),
        data(packed(NOISE[:PAGE_SIZE])[:-2]),
        data(packed(NOISE[: PAGE_SIZE + 1])),
    ],
    ids=range(16),
)
def test_an_answer_that_is_none_is_refused_and_nothing_is_asked_any_more(
    change: Callable[[Result], None],
) -> None:
    host = Host({"a": NOISE})
    host.change = change
    files = files_of(host)
    with pytest.raises(HostFailed) as caught:
        files.open("a", ((0, 4096),))
    assert not isinstance(caught.value, CmdletFailed)
    assert caught.value.exit_code == 4
    host.change = lambda result: None
    with pytest.raises(HostFailed, match="hv01:a: not read, for the host failed before"):
        files.open("a")
    assert len(host.asked) == 1


def test_a_file_that_has_become_shorter_is_its_own_failure() -> None:
    host = Host({"a": NOISE, "b": NOISE})
    host.change = changed("lengths", [10])
    files = files_of(host)
    with pytest.raises(CannotOpen, match="hv01:a: 4096 bytes at offset 0 could not be read"):
        files.open("a", ((0, 4096),))
    host.change = lambda result: None
    assert files.open("b").read_at(0, 10) == NOISE[:10]


def test_of_an_answer_no_more_is_inflated_than_was_asked_for() -> None:
    import tracemalloc

    host = Host({"a": NOISE})
    file = files_of(host).open("a")
    bytes_of_bomb = packed(bytes(200 * MIB))
    host.change = lambda result: setattr(result, "data", bytes_of_bomb)
    tracemalloc.start()
    with pytest.raises(HostFailed, match="something else than was asked for"):
        file.read_at(0, 100)
    assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    tracemalloc.stop()


def test_a_read_that_fails_there_is_the_files_failure() -> None:
    host = Host({"a": NOISE})
    files = files_of(host)
    file = files.open("a")

    def refuse(result: Result) -> None:
        raise failure(0x8007001D, "The disk is gone.")

    host.change = refuse
    with pytest.raises(CannotOpen, match=r"hv01:a: reading it .* failed: .*disk is gone"):
        file.read_at(0, 10)
    host.change = lambda result: None
    assert file.read_at(0, 10) == NOISE[:10]


def test_an_empty_file_is_none() -> None:
    host = Host({"a": b""})
    with pytest.raises(EmptyFile, match="hv01:a: the file is empty"):
        files_of(host).open("a", ((0, 10),))
    assert not host.opened


@pytest.mark.parametrize(
    ("code", "windows", "kind", "words"),
    [
        (0x80070002, True, NoFile, "no such file"),
        (0x80070003, True, NoFile, "no such file"),
        (0x80131620, True, NoFile, "a directory"),
        (0x80070015, False, NoFile, "a directory"),
        (0x80070015, True, CannotOpen, "cannot be opened on the host"),  # the drive is not ready
        (0x80070005, True, CannotOpen, "permission to read it is denied"),
        (0x0000000D, False, CannotOpen, "permission to read it is denied"),
        (0x80070020, True, CannotOpen, "running virtual machine"),
        (0x0000000B, False, CannotOpen, "running virtual machine"),
        (0x800700CE, True, CannotOpen, "the name is too long"),
        (0x800700CE, False, CannotOpen, "the name is too long"),
        (0x00000024, False, CannotOpen, "the name is too long"),
        (0x80070035, True, CannotOpen, "cannot be opened on the host: 'x' is a thing"),
        (0, True, CannotOpen, "cannot be opened on the host"),
    ],
)
def test_why_a_file_does_not_open(
    code: int, windows: bool, kind: type[CannotOpen], words: str
) -> None:
    message = "'x' is a directory." if code == 0x80131620 else "'x' is a thing\r\nmore"
    error = open_error("hv01:D:\\x", "D:\\x", failure(code, message), windows)
    assert type(error) is kind
    assert words in str(error)
    assert "more" not in str(error)
    assert error.exit_code == 3


def test_a_share_beyond_the_host_is_explained_and_an_old_script_is_the_hosts_failure() -> None:
    denied = open_error("hv01:\\\\fs\\x", "\\\\fs\\x", failure(0x80070005), True)
    assert "third machine" in denied.hint
    assert open_error("hv01:x", "x", failure(0x80131509), True).exit_code == 4


def test_paths_follow_the_hosts_rules_wherever_imagetool_runs() -> None:
    for path, folder in (
        ("D:\\images\\child.vhdx", "D:\\images"),
        ("D:/images/child.vhdx", "D:/images"),
        ("D:\\child.vhdx", "D:\\"),
        ("D:child.vhdx", "D:"),
        ("child.vhdx", ""),
        ("\\\\fs\\share\\child.vhdx", "\\\\fs\\share\\"),
        ("\\\\?\\D:\\images\\child.vhdx", "\\\\?\\D:\\images"),
    ):
        assert paths.dirname(path, True) == folder
        assert paths.join(folder, "child.vhdx", True) == path.replace("s/c", "s\\c")
    assert paths.dirname("/images/a\\b.vhdx", False) == "/images"
    assert paths.join("/images", "b", False) == "/images/b"
    assert paths.join("/", "b", False) == "/b"
    same = {
        paths.canonical(p, True) for p in ("D:\\A\\x.vhdx", "d:/a/X.VHDX", "D:\\a\\b\\..\\x.vhdx")
    }
    assert len(same) == 1
    assert paths.canonical("/A", False) != paths.canonical("/a", False)


# Tasks that share round trips


class Fetches:
    """Records each request, and answers every want with its square; some wants cannot be read."""

    def __init__(self, *unreadable: int) -> None:
        self.requests: list[list[int]] = []
        self.main = threading.current_thread()
        self.unreadable = unreadable
        self.failure: BaseException | None = None

    def __call__(self, wants: list[int]) -> dict[int, int]:
        assert threading.current_thread() is self.main
        self.requests.append(wants)
        if self.failure is not None:
            raise self.failure
        for want in wants:
            if want in self.unreadable:
                raise CannotOpen(f"{want} cannot be read")
        return {want: want * want for want in wants}


def test_tasks_share_requests_in_an_order_that_is_always_the_same() -> None:
    fetches = Fetches()
    batcher = ReadBatcher(fetches)
    read: list[int] = []

    def task(start: int, reads: int) -> list[int]:
        found = []
        for want in range(start, start + reads):
            read.append(want)
            found.append(batcher.fetch(want)[want])
        return found

    results = batcher.gather([lambda: task(10, 3), lambda: task(20, 1), lambda: task(30, 2)])
    assert results == [[100, 121, 144], [400], [900, 961]]
    assert fetches.requests == [[10, 20, 30], [11, 31], [12]]
    assert read == [10, 20, 30, 11, 31, 12]
    assert batcher.fetch(5) == {5: 25}
    assert fetches.requests[-1] == [5]
    assert batcher.gather([]) == []


def test_a_task_that_gathers_waits_and_what_it_gathers_shares_requests() -> None:
    fetches = Fetches()
    batcher = ReadBatcher(fetches)

    def square(want: int) -> int:
        return batcher.fetch(want)[want]

    def outer() -> int:
        first = square(1)
        return first + sum(batcher.gather([lambda: square(2), inner])) + square(9)

    def inner() -> int:
        return sum(batcher.gather([lambda: square(3), lambda: square(4)]))

    assert batcher.gather([outer, lambda: square(7)]) == [1 + 4 + 9 + 16 + 81, 49]
    assert fetches.requests == [[1, 7], [2, 3, 4], [9]]


def test_what_is_prefetched_runs_beside_the_task_and_ends_with_what_was_asked() -> None:
    fetches = Fetches()
    batcher = ReadBatcher(fetches)
    ended: list[str] = []
    before = threading.active_count()

    def reads_long() -> None:
        try:
            for want in range(10, 20):
                batcher.fetch(want)
        finally:
            ended.append("prefetch")

    def fails() -> None:
        raise RuntimeError("nobody hears of it")

    def outer() -> int:
        batcher.prefetch([reads_long, fails])
        batcher.fetch(1)
        return batcher.fetch(2)[2]

    assert batcher.gather([outer]) == [4]
    assert fetches.requests == [[1, 10], [2, 11]]
    assert ended == ["prefetch"]
    assert threading.active_count() == before
    batcher.prefetch([lambda: batcher.fetch(3), fails, lambda: batcher.fetch(4)])
    assert fetches.requests[-1] == [3, 4]


def test_the_first_failure_in_the_order_of_the_tasks_is_raised_when_all_have_ended() -> None:
    fetches = Fetches()
    batcher = ReadBatcher(fetches)
    ended: list[int] = []

    def task(number: int, reads: int, fails: bool) -> None:
        for want in range(10 * number, 10 * number + reads):
            batcher.fetch(want)
        ended.append(number)
        if fails:
            raise LookupError(number)

    tasks = [(1, 4, False), (2, 3, True), (3, 1, True), (4, 5, False)]
    with pytest.raises(LookupError, match="2"):
        batcher.gather([partial(task, *item) for item in tasks])
    assert ended == [3, 2, 1, 4]


@pytest.mark.parametrize("nested", [False, True])
def test_what_cannot_be_read_is_the_failure_of_the_task_that_asked_for_it(nested: bool) -> None:
    fetches = Fetches(2)
    batcher = ReadBatcher(fetches)

    def read(want: int) -> object:
        try:
            return batcher.fetch(want)[want]
        except CannotOpen as error:
            return error.message

    def ask() -> list[object]:
        return batcher.gather([lambda: read(1), lambda: read(2), lambda: read(3)])

    results = batcher.gather([ask])[0] if nested else ask()
    assert results == [1, "2 cannot be read", 9]


def test_a_host_that_fails_is_asked_once_and_every_task_hears_of_it() -> None:
    fetches = Fetches()
    fetches.failure = HostFailed("gone")
    batcher = ReadBatcher(fetches)
    heard: list[str] = []

    def task(want: int) -> None:
        try:
            batcher.fetch(want)
        except HostFailed as error:
            heard.append(error.message)
            raise

    with pytest.raises(HostFailed, match="gone"):
        batcher.gather([lambda: task(1), lambda: task(2)])
    assert heard == ["gone", "gone"]
    assert fetches.requests == [[1, 2]]


def test_an_interruption_ends_every_task() -> None:
    fetches = Fetches()
    fetches.failure = KeyboardInterrupt()
    batcher = ReadBatcher(fetches)
    ended: list[int] = []
    before = threading.active_count()

    def task(want: int) -> None:
        try:
            batcher.fetch(want)
        finally:
            try:
                batcher.fetch(want)  # what cleans up reads as well
            finally:
                ended.append(want)

    with pytest.raises(KeyboardInterrupt):
        batcher.gather([lambda: task(1), lambda: batcher.gather([lambda: task(2)])])
    assert ended == [1, 2]
    assert threading.active_count() == before
    assert fetches.requests == [[1, 2]]


def test_the_number_of_tasks_at_a_time_is_bounded_and_none_is_lost() -> None:
    fetches = Fetches()
    batcher = ReadBatcher(fetches)

    def square(want: int) -> int:
        return batcher.fetch(want)[want]

    def nested(want: int) -> int:
        return sum(batcher.gather([partial(square, want)]))

    count = MAX_TASKS + 20
    results = batcher.gather([partial(nested, n) for n in range(count)])
    assert results == [n * n for n in range(count)]
    assert max(map(len, fetches.requests)) <= MAX_TASKS

    def endless() -> None:
        batcher.prefetch([endless, endless])

    asked = len(fetches.requests)
    batcher.prefetch([endless])
    assert len(fetches.requests) == asked


def test_a_file_may_be_read_from_several_threads() -> None:
    host = Host({"a": NOISE})
    file = files_of(host).open("a")
    wrong: list[int] = []

    def read(seed: int) -> None:
        noise = random.Random(seed)
        for _ in range(60):
            offset, length = noise.randrange(len(NOISE)), noise.randrange(1, 90_000)
            if file.read_at(offset, length) != NOISE[offset : offset + length]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_tasks_that_read_one_file_share_requests() -> None:
    host = Host({"a": NOISE})
    file = files_of(host).open("a")
    places = [12 * PAGE_SIZE * place for place in range(15)]
    expected = [NOISE[place : place + 8] for place in places]
    assert file.gather([partial(file.read_at, place, 8) for place in places]) == expected
    assert len(host.asked) == 2
    file.prefetch([partial(file.read_at, place, 8) for place in places])
    assert [file.read_at(place, 8) for place in places] == expected
    assert len(host.asked) == 2


def test_a_host_that_fails_is_no_file_without_a_version() -> None:
    class GoneFile:
        def open(self) -> Any:
            return self

        def read_at(self, offset: int, length: int) -> bytes:
            raise HostFailed("gone")

    with pytest.raises(HostFailed, match="gone"):
        file_version(cast(Any, GoneFile()))


def test_the_directory_of_a_relative_path_is_named(unpack: Callable[[str], Path]) -> None:
    child = unpack("disk/dfvfs-image-differential.vhd.xz").read_bytes()
    with pytest.raises(CannotOpen, match=r"looked for image\.vhd in its own directory"):
        open_image("child.vhd", files=files_of(Host({"child.vhd": child})))
