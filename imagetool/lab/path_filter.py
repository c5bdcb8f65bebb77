"""The filter between a client and the session's script that translates the paths in frames.

It runs the engine as its child, and copies lines in both directions: frames (host/frames.py) with
the paths of path_names.py, every other line as it is. So a job runs with paths that differ, as with
a real host.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

from imagetool.errors import ImagetoolError, WrongUsage
from imagetool.host.environment import child_environment
from imagetool.host.frames import decode_frame, encode_frame
from imagetool.lab.configuration import GENERATIONS
from imagetool.lab.path_names import (
    NAMES_VARIABLE,
    TEMPORARY_NAME,
    PathNames,
    in_letters_of_files,
    parse_names,
)

GENERATION_VARIABLE = "IMAGETOOL_LAB_GENERATION"
"""Set by the emulated host for the filter: the release of Windows that it shows."""

_SCRIPT_VARIABLE = "IMAGETOOL_SCRIPT"
_FRAME_START = base64.b64encode(b"<Objs ")[:7]


def engine_command(engine: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command that runs an engine, behind the filter where it has something to do.

    Raises WrongUsage.
    """
    named = parse_names(environment.get(NAMES_VARIABLE, "")) is not None
    if not named and not environment.get(GENERATION_VARIABLE):
        return [engine]
    root = Path(__file__).resolve().parents[2]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); import {__name__} as m; m.main()"
    return [sys.executable, "-c", program, engine]


def show_generation(frame: dict[str, object], name: str) -> dict[str, object]:
    """Put what a release of Windows says of itself into the first word and the host's facts."""
    generation = GENERATIONS.get(name)
    facts = frame.get("properties")
    if generation is None:
        return frame
    if frame.get("kind") == "hello":
        return frame | {"version": generation.powershell, "edition": "Desktop"}
    if isinstance(facts, Mapping) and {"dism", "iso", "product"} <= set(facts):
        shown = {
            "dism": generation.dism,
            "iso": generation.has_vmguest_iso,
            "product": generation.product,
        }
        return frame | {"properties": {**facts, **shown}}
    return frame


def main() -> NoReturn:
    """Run the program that the arguments name, and translate what it reads and writes."""
    try:
        names = parse_names(os.environ.get(NAMES_VARIABLE, ""), os.getcwd())  # noqa: PTH109  # texts
    except WrongUsage as error:
        _end(str(error), 2)
    if not sys.argv[1:]:
        _end("there is no program to run", 2)
    generation = os.environ.get(GENERATION_VARIABLE, "")

    def to_directory(path: str) -> str:
        directory = path if names is None else names.to_directory(path)
        return in_letters_of_files(directory) if names is not None and names.windows else directory

    def request(frame: Mapping[str, object]) -> dict[str, object]:
        return dict(frame) if names is None else names.request(frame, to_directory)

    def answer(frame: Mapping[str, object]) -> dict[str, object]:
        return show_generation(dict(frame) if names is None else names.answer(frame), generation)

    try:
        process = subprocess.Popen(
            _with_script(sys.argv[1:], to_directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(names, to_directory),
            preexec_fn=_dying_with_parent(),
        )
    except OSError as error:
        _end(f"{sys.argv[1]} cannot be started: {error.strerror}", 127)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: process.send_signal(received))
    assert process.stdin and process.stdout
    writer = threading.Thread(
        target=_copy,
        args=(sys.stdin.buffer, process.stdin, request),
        daemon=True,
    )
    writer.start()
    _copy(process.stdout, sys.stdout.buffer, answer)
    process.stdout.close()  # where nobody reads any more, the program is told so
    code = process.wait()
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)  # not before the writer ends, whose input may never end


def _end(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    os._exit(code)


def _with_script(arguments: Sequence[str], to_directory: Callable[[str], str]) -> list[str]:
    """Return PowerShell's command line with the path of an installed script translated."""
    return [
        to_directory(argument) if before.lower() == "-file" else argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
    ]


def _environment(names: PathNames | None, to_directory: Callable[[str], str]) -> dict[str, str]:
    """Return the program's environment, with the directories that names in it stand for."""
    environment = child_environment()
    if names is not None and names.windows:
        environment["TMPDIR"] = names.to_directory(TEMPORARY_NAME)
    script = environment.get(_SCRIPT_VARIABLE, "")
    if script:
        environment[_SCRIPT_VARIABLE] = to_directory(script)
    return environment


def translate_line(
    line: bytes, translate: Callable[[Mapping[str, object]], dict[str, object]]
) -> bytes:
    """Return a line with its frame translated; one without a frame, or with no path, as it is."""
    if not line.startswith(_FRAME_START):  # the script itself, or a payload
        return line
    try:
        frame = decode_frame(line)
        translated = translate(frame)
        return line if translated == frame else encode_frame(translated)
    except ImagetoolError:  # no frame after all, or one that cannot be written
        return line


def _copy(
    source: IO[bytes],
    target: IO[bytes],
    translate: Callable[[Mapping[str, object]], dict[str, object]],
) -> None:
    """Copy lines, frames translated, until the source or the target ends; close the target."""
    with suppress(OSError, ValueError):
        while line := source.readline():
            target.write(translate_line(line, translate))
            target.flush()
    with suppress(OSError, ValueError):
        target.close()


def _dying_with_parent() -> Callable[[], object] | None:
    """Return a function that has Linux kill a new process when this one is killed."""
    if sys.platform != "linux":
        return None
    import ctypes

    pr_set_pdeathsig = 1
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(pr_set_pdeathsig, signal.SIGKILL)
