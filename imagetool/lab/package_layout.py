"""The files of a package once it is installed, as the emulated host lays them out.

A table of its own: what is proved by the readers' table must not be written by it.
"""

from __future__ import annotations

from imagetool.package.identity import Identity


def path_in_guest(member: str, identity: Identity) -> str:
    r"""Return the path in the guest of a file of a package.

    The package's manifest and catalog go to servicing\Packages under its identity, the manifests of
    components to WinSxS\Manifests, and their files to a directory of WinSxS that is named as in the
    package.
    """
    directory, _, name = member.rpartition("/")
    suffix = name.rpartition(".")[2].lower()
    if not directory and name.lower() in ("update.mum", "update.cat"):
        parts = ["Windows", "servicing", "Packages", f"{identity}.{suffix}"]
    elif directory:
        parts = ["Windows", "WinSxS", *directory.split("/"), name]
    else:
        parts = ["Windows", "WinSxS", "Manifests", name]
    return "\\".join(parts)
