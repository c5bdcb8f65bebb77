"""A host that answers without an end, too deeply, of wrong types, or never what it was asked."""

from __future__ import annotations

import base64
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import imagetool.host.answers
import imagetool.host.session
from imagetool.contracts import Result
from imagetool.errors import HostFailed
from imagetool.host.check.path_check import volume_finding
from imagetool.host.clixml import loads
from imagetool.host.files import FileOperations
from imagetool.host.frames import AnswerFrame, RequestFrame
from imagetool.host.session import Session

FOUND = Path(__file__).resolve().parents[2].parent / "shared" / "testdata" / "found"
HELLO = {"protocol": 4, "process": 1, "windows": False, "modules": [], "edition": "Core",
         "version": "7.4", "language": "FullLanguage", "system": "", "computer": ""}  # fmt: skip


class ScriptedHost:
    """A transport whose host says hello, and then whatever `answer` gives to each request."""

    def __init__(
        self, answer: Callable[[int], Iterator[bytes | None]], hello: bytes | None = None
    ) -> None:
        self._answer = answer
        self._lines: Iterator[bytes | None] = iter(
            [AnswerFrame(0, "hello", dict(HELLO)).encode() if hello is None else hello]
        )
        self.closed = False

    def send(self, lines: bytes) -> None:
        request = RequestFrame.decode(lines.strip().splitlines()[-1])
        if request.number:
            self._lines = self._answer(request.number)

    def receive_line(self, timeout: float) -> bytes | None:
        line = next(self._lines, None)
        if line is None:
            time.sleep(min(timeout, 0.01))
        return line

    def reconnect(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_the_first_word_of_a_host_is_no_bomb() -> None:
    path = FOUND / "bombs" / "hello.b64"
    if not path.exists():
        pytest.skip("the shared test data is not there: found/bombs/hello.b64")
    tracemalloc.start()
    host = ScriptedHost(lambda _: iter(()), path.read_bytes().strip() + b"\n")
    with pytest.raises(HostFailed):
        Session(host)
    assert host.closed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def _doubling(levels: int, container: str) -> str:
    """A document in which each object names the one before it twice."""
    inner = '<Obj RefId="0"><LST><S>x</S></LST></Obj>'
    for level in range(1, levels):
        again = f'<Ref RefId="{level - 1}" />'
        parts = (
            f"{inner}{again}"
            if container == "LST"
            else f'<En><S N="Key">a</S>{inner}</En><En><S N="Key">b</S>{again}</En>'
        )
        inner = f'<Obj RefId="{level}"><{container}>{parts}</{container}></Obj>'
    return f"<Objs>{inner}</Objs>"


@pytest.mark.parametrize("container", ["LST", "DCT"])
def test_lists_and_tables_that_double_themselves_are_refused(container: str) -> None:
    assert loads(_doubling(4, container))
    with pytest.raises(HostFailed, match=r"larger|deeper|without an end"):
        loads(_doubling(60, container))


@pytest.mark.parametrize(
    "document",
    [
        "<Objs>" + "<Obj><LST>" * 5000 + "</LST></Obj>" * 5000 + "</Objs>",
        "<Objs><Obj><LST>" + "<Nil/>" * 500_000 + "</LST></Obj></Objs>",
        "<Objs><I64>" + "9" * 100_000 + "</I64></Objs>",
        '<Objs><Obj RefId="1"><LST><Ref RefId="1"/></LST></Obj></Objs>',
        "<Objs><Obj><DCT><En><Obj><LST/></Obj><S>x</S></En></DCT></Obj></Objs>",
        "<Objs><C>99999999999</C></Objs>",
        "<Objs><DT>9999-99-99</DT></Objs>",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><Objs><S>&a;</S></Objs>",
    ],
    ids=["deep", "wide", "digits", "itself", "key", "character", "date", "entity"],
)
def test_other_documents_of_that_shape_are_values_or_refused(document: str) -> None:
    begun = time.process_time()
    try:
        loads(document)
    except HostFailed as error:
        assert "CLIXML" in error.message
    assert time.process_time() - begun < 10


def _forever(kind: str, other: int = 0, **content: object) -> Callable[[int], Iterator[bytes]]:
    def answer(number: int) -> Iterator[bytes]:
        line = AnswerFrame(number + other, kind, content).encode()
        while True:
            yield line

    return answer


@pytest.mark.parametrize("kind", ["result", "error"])
def test_answers_without_an_end_are_ended(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagetool.host.answers, "MAX_ANSWER_BYTES", 1 << 20)
    monkeypatch.setattr(imagetool.host.session, "_CANCEL_TIMEOUT", 0.3)
    host = ScriptedHost(_forever(kind, properties={"Name": "x" * 1000}, message="no"))
    with Session(host) as session, pytest.raises(HostFailed, match="without an end"):
        session.invoke("Get-VHD", Path="a")


def _trickle(kind: str, other: int) -> Callable[[int], Iterator[bytes | None]]:
    def answer(number: int) -> Iterator[bytes | None]:
        line = b"\n" if kind == "empty" else AnswerFrame(number + other, kind).encode()
        while True:
            yield line
            yield None

    return answer


@pytest.mark.parametrize(
    ("kind", "other"),
    [("empty", 0), ("progress", 0), ("warning", 0), ("progress", -1), ("result", 1), ("end", 5)],
)
@pytest.mark.parametrize("quickly", [False, True])
def test_a_host_that_trickles_is_ended_in_the_time_of_the_request(
    kind: str, other: int, quickly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagetool.host.session, "_CANCEL_TIMEOUT", 0.3)
    trickle = _trickle(kind, other)

    def answer(number: int) -> Iterator[bytes | None]:
        return (line for line in trickle(number) if line is not None or not quickly)

    begun = time.monotonic()
    session = Session(ScriptedHost(answer))
    with pytest.raises(HostFailed, match="in time"):
        session.operate("stat", path="a", deadline=0.5)
    session.close()
    assert time.monotonic() - begun < 30


def test_a_request_without_a_deadline_has_an_end_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_READ_SECONDS", "_REQUEST_SECONDS", "_CANCEL_TIMEOUT"):
        monkeypatch.setattr(imagetool.host.session, name, 0.3)
    session = Session(ScriptedHost(_trickle("progress", 0)))
    for ask in (
        lambda: session.operate("stat", path="a"),
        lambda: session.invoke("Get-VHD", Path="a"),
    ):
        with pytest.raises(HostFailed, match="in time"):
            ask()
    session.close()


WRONG: list[object] = [None, "text", b"bytes", 5, 2.5, True, [1], {"a": 1}]


class WrongHost:
    """A host whose answers have one wrong value, or lack it."""

    on_windows = True
    hello = HELLO

    def __init__(self, wrong: dict[str, object]) -> None:
        self._wrong = wrong

    def operate(self, operation: str, **parameters: object) -> Result:
        return Result(self._wrong)

    def invoke(self, cmdlet: str, **parameters: object) -> list[Result]:
        return [Result(self._wrong)]


NAMES = ["exists", "directory", "size", "written", "attributes", "sha256", "inuse", "lists",
         "path", "kind", "system", "free", "DriveType", "FileSystem", "SizeRemaining"]  # fmt: skip
RIGHT: dict[str, object] = {
    "exists": True, "directory": False, "size": 5, "written": None, "attributes": 0, "inuse": False,
    "sha256": "00", "lists": [{"entries": ["fa"]}], "path": "x", "kind": "Fixed", "system": "NTFS",
    "free": 5, "DriveType": "Fixed", "FileSystem": "NTFS", "SizeRemaining": 5,
}  # fmt: skip
ASK: dict[str, Callable[[WrongHost], object]] = {
    "stat": lambda host: FileOperations(host).stat("a"),  # type: ignore[arg-type]  # a double
    "sha256": lambda host: FileOperations(host).sha256("a"),  # type: ignore[arg-type]  # a double
    "in_use": lambda host: FileOperations(host).in_use("a"),  # type: ignore[arg-type]  # a double
    "list": lambda host: FileOperations(host).list_names("a"),  # type: ignore[arg-type]  # a double
    "temporary": lambda host: FileOperations(host).temporary_directory(),  # type: ignore[arg-type]  # a double
    "volume": lambda host: volume_finding(host, "directory", "a"),  # type: ignore[arg-type]  # a double
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_values_of_wrong_types_and_missing_ones_are_failures_of_the_host(
    ask: Callable[[WrongHost], object],
) -> None:
    ask(WrongHost(RIGHT))
    for name in NAMES:
        without = {key: value for key, value in RIGHT.items() if key != name}
        for wrong in [without, *(RIGHT | {name: value} for value in WRONG)]:
            try:
                ask(WrongHost(wrong))
            except HostFailed as error:
                assert name in error.message


def test_a_yes_that_is_a_text_is_no_yes() -> None:
    for name in ("exists", "directory"):
        with pytest.raises(HostFailed, match="wrong type"):
            FileOperations(WrongHost(RIGHT | {name: "false"})).stat("a")  # type: ignore[arg-type]  # a double


def test_random_first_words_are_refused_or_taken() -> None:
    for size in (0, 1, 50, 1 << 17):
        for line in (os.urandom(size), base64.b64encode(os.urandom(size))):
            host = ScriptedHost(lambda _: iter(()), line.replace(b"\n", b"") + b"x\n")
            with pytest.raises(HostFailed):
                Session(host)
