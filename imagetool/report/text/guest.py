"""The layout of inspections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagetool.report.data import Document
from imagetool.report.text import format_table, format_time, safe
from imagetool.report.text.disk import format_disk

_START_TYPES = {0: "boot", 1: "system", 2: "automatic", 3: "on demand", 4: "disabled"}

_Rows = list[Sequence[object]]


def inspect(document: Document) -> str:
    """Each image with its disk and its guest; those that could not be read are left out."""
    images: Any = document.tree["images"]
    return "".join(_format_image(image) for image in images if "error" not in image)


def _format_image(image: Mapping[str, Any]) -> str:
    guest, components, pending = image["guest"], image["components"], image["pending"]
    rows: _Rows = []
    if guest is None:
        rows.append(("guest", image["note"]))
    elif guest["system"] == "Windows":
        rows += _windows_rows(guest)
    else:
        rows.append(("system", f"{guest['system']}, {guest['product']}"))
    if components is not None:
        rows += _component_rows(components)
    if pending is not None:
        rows += [("pending", text) for text in pending["operations"] or ["nothing"]]
        rows += [("note", text) for text in pending["notes"]]
    rows += [("warning", warning) for warning in image["warnings"]]
    return f"{safe(image['image'])}\n{format_disk(image['disk'])}{format_table(rows)}"


def _windows_rows(guest: Mapping[str, Any]) -> _Rows:
    """The facts of a Windows."""
    architecture = guest["architecture"] or "unknown"
    rows: _Rows = [
        ("system", f"{guest['product']}, {guest['version']}, {architecture}"),
        ("edition", guest["edition"]),
        ("computer", guest["computer_name"]),
        ("state", f"{guest['image_state']}{' (generalised)' if guest['generalised'] else ''}"),
    ]
    host = guest["last_host"]
    if host is not None:
        name = f"{host['host']}, as {host['virtual_machine']}, {format_time(host['at'])}"
        rows.append(("last host", name))
    rows += [("emulated", f"{name} {text}") for name, text in guest["emulated"].items()]
    return rows


def _component_rows(components: Mapping[str, Any]) -> _Rows:
    """The evidence about integration components."""
    recorded = "nothing"
    if components["recorded"] is not None:
        written = format_time(components["recorded_at"])
        recorded = f"{components['recorded']}, key written {written}"
    driver = components["active_driver"] or "none"
    rows: _Rows = [
        ("recorded", recorded),
        ("active driver", f"{driver}  {components['active_driver_package']}"),
        ("bound driver", components["bound_driver"] or "none"),
        ("vmbus.sys", components["vmbus_sys"] or "none"),
        ("storvsc.sys", components["storvsc_sys"] or "none"),
        ("icsvc.dll", components["icsvc_dll"] or "none"),
    ]
    rows += [
        ("services" if not index else "", f"{service['name']:<18}  {_format_start(service)}")
        for index, service in enumerate(components["services"])
    ]
    rows += [
        ("in-box" if not index else "", f"{package['identity']} {package['state_name']}")
        for index, package in enumerate(components["in_box_packages"])
    ]
    for package in components["packages"]:
        when = f", {format_time(package['installed_at'])}" if package["installed_at"] else ""
        rows.append(("package", f"{package['identity']} {package['state_name']}{when}"))
        if package["manifest"] is not None:
            complete = package["manifest"] and package["catalog"] and not package["missing"]
            state = "complete" if complete else "incomplete"
            rows.append(("", f"manifest, catalog and payload {state}"))
    return rows


def _format_start(service: Mapping[str, Any]) -> str:
    """A service's start type on Hyper-V, and each override with its machine."""
    effective = service["effective_start"]
    text = "no start" if effective is None else str(_START_TYPES.get(effective, effective))
    overrides = [
        f"StartOverride {item['start']} on {item['machine'] or 'a machine that is not known'}"
        for item in service["overrides"]
    ]
    return f"{text} ({', '.join(overrides)})" if overrides else text
