"""The layouts of plans and of what was injected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagetool.report.data import Document
from imagetool.report.text import format_size, format_table, safe


def plan(document: Document) -> str:
    """A plan: image, package, output, and the steps in their order."""
    tree: Any = document.tree
    image, package = tree["image"], tree["package"]
    rows = [
        ("image", f"{image['product']}, volume {image['volume']}, {format_size(image['size'])}"),
        ("package", f"{package['name']}: {package['identity']}"),
    ]
    if package["sha256"]:
        count, judgement = len(package["members"]), package["judgement"]
        rows.append(("", f"{format_size(package['size'])}, {count} files, {judgement}"))
    rows += [("reason", tree["reason"]), ("host", tree["host"])]
    if tree["nothing_to_do"]:
        return f"{safe(image['name'])}: nothing to do\n{format_table(rows, '  ')}"
    rows.append(("output", tree["output"]))
    rows += [("warning", text) for text in tree["warnings"]]
    steps = [(f"{number}", step["title"]) for number, step in enumerate(tree["steps"], 1)]
    return (
        f"{safe(image['name'])}: would be serviced as a copy\n{format_table(rows, '  ')}"
        f"steps\n{format_table(steps, '  ')}nothing was touched\n"
    )


def inject(document: Document) -> str:
    """The outcome for each image, and of several a summary."""
    images: Any = document.tree["images"]
    text = "".join(_format_injection(image) for image in images)
    if len(images) < 2:
        return text
    done = sum(image["outcome"] == "injected" for image in images)
    failed = sum(image["outcome"] == "failed" for image in images)
    nothing = len(images) - done - failed
    return f"{text}{done} injected; {nothing} with nothing to do; {failed} failed\n"


def _format_injection(image: Mapping[str, Any]) -> str:
    name = safe(image["image"])
    if image["outcome"] == "failed":
        return ""  # the error was said when it occurred
    if image["outcome"] == "nothing to do":
        return f"{name}: nothing to do, and no file was made ({safe(image['plan']['reason'])})\n"
    where = " on the emulated host" if image["emulated"] else ""
    lines = [
        f"{safe(image['output'])}: {safe(image['plan']['package']['identity'])} "
        f"{safe(image['state'])}, proved; verdict {safe(image['proof']['verdict'])}",
        _format_signature(image["signature"]),
        f"serviced by {safe(image['host'])}{where}; {name} is as it was",
    ]
    digests = image["digests"] or {}
    lines += [f"sha256  {digest}  {safe(image[key])}" for key, digest in digests.items()]
    return "".join(f"{line}\n" for line in lines)


def _format_signature(report: Mapping[str, Any]) -> str:
    """A line about who signed what was injected."""
    signed = next((item for item in report["findings"] if item["signer"]), None)
    if report["judgement"] == "genuine" and signed is not None:
        return f"genuine: signed by {safe(signed['signer'])}, under {safe(signed['root'])}"
    return f"the package is {safe(report['judgement'])}, which was allowed"
