"""The program: it loads the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Never

import typer

from imagetool import __version__
from imagetool.cli.failure import print_traceback, report_failure, show_tracebacks
from imagetool.errors import ImagetoolError
from imagetool.report.text import safe

_program = typer.Typer(
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
_COMMAND_MODULES = {
    "images": ("inspect", "verify"),
    "registry": ("registry",),
    "files": ("file",),
    "disks": ("disk",),
    "packages": ("package",),
    "servicing": ("inject",),
    "host": ("host",),
    "lab": ("lab",),
    "planned": (),
}
"""The commands of each module of this folder; `planned` has all others."""

_EXIT_FAULT, _EXIT_INTERRUPTED = 70, 130


def build_program(arguments: Sequence[str]) -> typer.Typer:
    """Build the program with the command that the arguments name, else with all commands.

    A command line runs one command: building the others would take longer than most answers.
    """
    named = next((item for item in arguments if not item.startswith("-")), "")
    chosen = [module for module, commands in _COMMAND_MODULES.items() if named in commands]
    for module in chosen or _COMMAND_MODULES:
        import_module(f"imagetool.cli.{module}").add_commands(_program)
    return _program


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imagetool {__version__}")
        raise typer.Exit


@_program.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every failure.")
    ] = False,
) -> None:
    """Read, verify and update the Hyper-V integration services of guest images, unmounted."""
    show_tracebacks(debug)


def run() -> Never:
    """Run the command line and exit; an error is printed, and gives the exit code."""
    discarded = io.StringIO()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, discarded)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A Windows console or a C locale lacks many characters; no name may end the program.
            stream.reconfigure(errors="backslashreplace")
    try:
        command = typer.main.get_command(build_program(sys.argv[1:]))
        code = command.main(prog_name="imagetool", standalone_mode=False)
        sys.stdout.flush()
        if sys.stdout is discarded and discarded.getvalue():
            code = report_failure(_stdout_closed())
    except ImagetoolError as error:
        code = report_failure(error)
    except (typer.Abort, KeyboardInterrupt):
        code = _EXIT_INTERRUPTED
    except SystemExit as error:
        # typer raises this for a broken pipe; nothing else ends a command so.
        broken = isinstance(error.__context__, BrokenPipeError)
        code = 0 if broken else error.code
    except BrokenPipeError:
        # The reader of standard output has gone: flushing at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = report_failure(_write_error(error))
    except Exception as error:
        show = getattr(error, "show", None)
        if show is not None:  # a usage error of typer
            show()
            code = int(getattr(error, "exit_code", 2))
        else:
            code = _report_fault(error)
    if code == _EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code silently
        typer.echo("imagetool: interrupted", err=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing but the exit is left
    gc.freeze()  # no garbage collection on the way out
    sys.exit(code if isinstance(code, int) else 0)


def _stdout_closed() -> ImagetoolError:
    from imagetool.errors import CannotWrite

    return CannotWrite("standard output is closed", hint="Leave it open, or send it somewhere.")


def _write_error(error: OSError) -> ImagetoolError:
    from imagetool.errors import CannotWrite

    name = f"{error.filename}: " if error.filename else ""
    return CannotWrite(
        f"{name}the system refuses: {error.strerror}", hint="Is the disk full, or read-only?"
    )


def _report_fault(error: Exception) -> int:
    typer.echo(
        f"imagetool: a fault in imagetool itself: {type(error).__name__}: {safe(error)}", err=True
    )
    typer.echo("hint: please report it, with the output of the same command and --debug", err=True)
    print_traceback(error)
    return _EXIT_FAULT
