"""Redaction of names in reports that are sent to others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from imagetool.contracts import Host
from imagetool.host.answers import CmdletFailed
from imagetool.host.configuration.address import ConfiguredHost


def redactor(host: ConfiguredHost, session: Host, path: str = "") -> Callable[[str], str]:
    """Return a function that redacts `path` and names of users, computers, domains and hosts."""
    facts = {}
    with contextlib.suppress(CmdletFailed):
        facts = dict(session.operate("facts"))
    domain, _, user = str(facts.get("user") or "").rpartition("\\")
    names = {
        str(session.hello.get("computer") or ""): "<computer>",
        str(facts.get("computer") or ""): "<computer>",
        str(facts.get("domain") or ""): "<domain>",
        domain: "<domain>",
        user: "<user>",
        host.user: "<user>",
        host.user.rpartition("\\")[2].partition("@")[0]: "<user>",
        host.user.partition("\\")[0]
        if "\\" in host.user
        else host.user.partition("@")[2]: "<domain>",
        re.sub(r"[\\/]?[^\\/]*$", "", path): "<directory>",
        path: "<path>",
        host.certificate: "<certificate>",
    }
    if host.remote:
        names |= {host.name: "<host>", host.origin.partition("://")[2].rpartition(":")[0]: "<host>"}
    patterns = [
        (re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE), mark)
        for name, mark in sorted(names.items(), key=lambda item: -len(item[0]))
        if len(re.sub(r"\W", "", name)) > 1
    ]
    # Directories of profiles hold the user's name, perhaps shortened; an SID is an account.
    patterns += [
        (re.compile(r"(?<=\\Users\\)[^\\\s]+|(?<=/home/)[^/\s]+", re.IGNORECASE), "<user>"),
        (re.compile(r"S-1-5-21(-\d+)+"), "<account>"),
    ]

    def redact(text: str) -> str:
        for pattern, mark in patterns:
            text = pattern.sub(lambda _, mark=mark: mark, text)  # type: ignore[misc]  # the default
        return text

    return redact
