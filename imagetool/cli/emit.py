"""Results on standard output, or in a file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imagetool.errors import CannotWrite
from imagetool.report import render

if TYPE_CHECKING:
    from imagetool.contracts import Reportable


def emit(result: Reportable, output_format: str, output: Path | None = None) -> None:
    """Write a result to standard output, or to a file. Raises CannotWrite."""
    text = render(result, output_format)
    if output is None:
        typer.echo(text, nl=False)
        return
    before = output.exists()
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        if not before:
            with suppress(OSError):
                output.unlink(missing_ok=True)
        raise CannotWrite(
            f"{output}: cannot be written: {error.strerror}",
            hint="Is the disk full, or the directory missing or read-only?",
        ) from None
