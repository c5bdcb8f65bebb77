"""Results as documents: one tree of data per result, and one module per format that writes it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from imagetool.report.data import build_document

if TYPE_CHECKING:
    from imagetool.contracts import Reportable


def render(result: Reportable, output_format: str, *, errors_said: bool = False) -> str:
    """Return a result in a format: text, json, or another module of this folder.

    With `errors_said` the text leaves out the sentences of errors, which were printed already.
    Raises WrongUsage where the format cannot hold such a result.
    """
    writer = import_module(f"imagetool.report.{output_format}")
    document = build_document(result)
    if errors_said:
        document = document._replace(beside={**document.beside, "errors_said": True})
    text: str = writer.render(document)
    return text
