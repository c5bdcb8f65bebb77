"""The program: it loads the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Never

import typer

from imagetool.cli.failure import report_failure, show_tracebacks
from imagetool.cli.outputs import open_outputs
from imagetool.cli.repeated import refuse_repeated_options
from imagetool.connection import check_configuration
from imagetool.errors import WrongUsage
from imagetool.version import __version__

_COMMAND_MODULES = {
    "images": ("inspect", "verify"),
    "registry": ("registry",),
    "files": ("file",),
    "disks": ("disk",),
    "packages": ("package",),
    "servicing": ("plan", "inject"),
    "host": ("host",),
    "lab": ("lab",),
    "schemas": ("schema",),
    "planned": (),
}
"""The commands of each module of this folder; `planned` has all others."""

_EPILOG = (
    "\b\nExit codes: 0 done, and every verdict holds; 1 the answer is no; 2 wrong command line;"
    "\n3 an input cannot be read; 4 the host; 5 servicing failed, the image is as it was;"
    "\n6 something was left behind; 7 the result cannot be written; 70 a fault in imagetool."
    "\n\nExample: imagetool verify template.vhdx --package vmguest.iso"
)
_EXIT_INTERRUPTED = 130
_INTERRUPTING_SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")
"""What ends a command as Ctrl-C does: reports are written, and what was begun is cleaned up. The
last is Ctrl-Break of Windows, which has no SIGHUP."""


def build_program(arguments: Sequence[str]) -> typer.Typer:
    """Build the program with the command that the arguments name, else with all commands.

    A command line runs one command: building the others would take longer than most answers.
    """
    app = typer.Typer(
        name="imagetool",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog=_EPILOG,
    )
    app.callback()(_options)
    named = next((item for item in arguments if not item.startswith("-")), "")
    chosen = [module for module, commands in _COMMAND_MODULES.items() if named in commands]
    for module in chosen or _COMMAND_MODULES:
        import_module(f"imagetool.cli.{module}").add_commands(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imagetool {__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with every failure.")
    ] = False,
) -> None:
    """Read, verify and update the Hyper-V integration services of guest images, unmounted."""
    show_tracebacks(debug)
    if not set(context.help_option_names) & set(context.obj):
        # Whichever command comes next tells of a mistake, also one that needs no host.
        try:
            check_configuration()
        except WrongUsage as error:
            _report_wrong_usage(context.obj, error)
            raise


def run() -> Never:
    """Run the command line of this process and exit."""
    open_outputs()
    for name in _INTERRUPTING_SIGNALS:
        number = getattr(signal, name, None)  # not every system has each
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, signal.default_int_handler)
    code = answer(None)
    for name in ("SIGINT", *_INTERRUPTING_SIGNALS):  # nothing but the exit is left
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    gc.freeze()  # no garbage collection on the way out
    sys.exit(code)


def answer(arguments: Sequence[str] | None) -> int:
    """Run a command line (None: that of this process); its exit code.

    A failure becomes a sentence and a hint on standard error.
    """
    code: object
    try:
        named = sys.argv[1:] if arguments is None else arguments
        command = typer.main.get_command(build_program(named))
        refuse_repeated_options(command)
        code = command.main(arguments, prog_name="imagetool", standalone_mode=False, obj=named)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        code = _EXIT_INTERRUPTED
    except SystemExit as error:
        # typer raises this for a broken pipe; nothing else ends a command so.
        broken = isinstance(error.__context__, BrokenPipeError)
        code = 0 if broken else error.code
    except BrokenPipeError:
        code = 0  # whoever read standard output has gone: nothing more can be said there
    except Exception as error:
        show = getattr(error, "show", None)
        if show is not None:  # a usage error of typer
            show()
            code = int(getattr(error, "exit_code", 2))
            _report_wrong_usage(named, error)
        else:
            code = report_failure(error)
    if code == _EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code silently
        typer.echo("imagetool: interrupted", err=True)
    return code if isinstance(code, int) else 0


def _report_wrong_usage(arguments: Sequence[str], error: Exception) -> None:
    """Write the report that the command line asks for, where the rest of it is wrong."""
    from imagetool.cli.usage import report_wrong_usage

    format_message = getattr(error, "format_message", error.__str__)
    report_wrong_usage(arguments, format_message())
