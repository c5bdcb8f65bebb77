"""The tree of data of every result, found by the result's type; all formats are written from it.

A tree is made of dictionaries, sequences and plain values, and its keys are those of the JSON
document. Versions, times and bytes stay what they are: each format has its own way to write them.

The trees of the results of a folder stand in the module of that name here: verdict.py has those of
`imagetool.verdict`. It is loaded with the first of them, and loads none of the folder's modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from imagetool.contracts import Reportable
    from imagetool.errors import ImagetoolError

Tree = dict[str, object]


class Document(NamedTuple):
    """The tree of a result; its schema is `imagetool/<command>/1` (docs/commands.md)."""

    command: str
    """The command that prints the result, with hyphens: package-show."""
    tree: Tree
    beside: Mapping[str, object] = {}
    """Facts for people and CI systems that are not part of the schema."""


Builder = TypeVar("Builder", bound=Callable[[Any], Document])

_BUILDERS: dict[str, Callable[[Any], Document]] = {}
"""By the full name of the result's type."""


def builds(type_name: str) -> Callable[[Builder], Builder]:
    """Decorate the function that builds the document of a type, named without `imagetool.`."""

    def register(builder: Builder) -> Builder:
        _BUILDERS[f"imagetool.{type_name}"] = builder
        return builder

    return register


def build_document(result: Reportable) -> Document:
    """Build the document of a result. Raises TypeError for a type that has no tree."""
    kind = type(result)
    package, _, rest = kind.__module__.partition(".")
    if package == "imagetool":
        import_module(f"imagetool.report.data.{rest.partition('.')[0]}")
    builder = _BUILDERS.get(f"{kind.__module__}.{kind.__qualname__}")
    if builder is None:
        raise TypeError(f"{kind.__qualname__} has no tree in imagetool.report.data")
    return builder(result)


def error_tree(error: ImagetoolError | None) -> Tree:
    """The failure that ended the work early, as the document's `error`; nothing without one."""
    if error is None:
        return {}
    found = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return {"error": found}
