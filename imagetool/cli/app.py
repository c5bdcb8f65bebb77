"""The program: its commands, and the one place where failures become sentences and exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated, Never

import typer

from imagetool import __version__
from imagetool.cli import disks, files, images, later, packages, registry, rehearsal, servicing
from imagetool.cli.failure import fail, show_traceback, tracebacks
from imagetool.errors import ImagetoolError
from imagetool.report.text import safe

app = typer.Typer(
    name="imagetool",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "\b\nExit codes: 0 done, and every verdict holds; 1 the answer is no; 2 wrong command line;"
        "\n3 an input cannot be read; 4 the host; 5 servicing failed, the image is as it was;"
        "\n6 something was left behind; 7 the result cannot be written; 70 a fault in imagetool."
        "\n\nExample: imagetool verify template.vhdx --package vmguest.iso"
    ),
)
for group in (images, registry, files, disks, packages, servicing, rehearsal, later):
    group.add_to(app)

_FAULT, _INTERRUPTED = 70, 130


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imagetool {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every failure.")
    ] = False,
) -> None:
    """Read, verify and update the Hyper-V integration services of guest images, unmounted."""
    show_traceback(debug)


def run() -> Never:
    """Run the command line and exit: with the failure's code, and its sentence and hint."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A Windows console or a C locale lacks many characters; no name may end the program.
            stream.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(app)
    try:
        code = command.main(prog_name="imagetool", standalone_mode=False)
        sys.stdout.flush()
    except ImagetoolError as error:
        code = fail(error)
    except typer.Abort:
        typer.echo("imagetool: interrupted", err=True)
        code = _INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has gone: nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = fail(_unwritten(error))
    except Exception as error:
        show = getattr(error, "show", None)
        if show is not None:  # typer's own: the command line is wrong
            show()
            code = int(getattr(error, "exit_code", 2))
        else:
            code = _fault(error)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is going
    sys.exit(code if isinstance(code, int) else 0)


def _unwritten(error: OSError) -> ImagetoolError:
    from imagetool.errors import CannotWrite

    name = f"{error.filename}: " if error.filename else ""
    return CannotWrite(
        f"{name}the system refuses: {error.strerror}", hint="Is the disk full, or read-only?"
    )


def _fault(error: Exception) -> int:
    typer.echo(
        f"imagetool: a fault in imagetool itself: {type(error).__name__}: {safe(error)}", err=True
    )
    typer.echo("hint: please report it, with the output of the same command and --debug", err=True)
    tracebacks(error)
    return _FAULT
