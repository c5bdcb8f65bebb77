"""Shells: their commands, quotas and idle timeouts. [MS-WSMV] 3.1.4."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from imagetool.lab.winrm import soap_faults
from imagetool.lab.winrm.command import Command
from imagetool.lab.winrm.limits import Limits


@dataclass(slots=True)
class Shell:
    """A shell, and its commands by identifier."""

    identifier: str
    idle_timeout: float
    """Seconds without a request after which it is deleted."""
    environment: Mapping[str, str]
    working_directory: str
    code_page: int
    input_streams: str
    output_streams: str
    commands: dict[str, Command] = field(default_factory=dict)
    command_count: int = 0
    """Commands since the shell was created, those that have ended included."""
    created: float = field(default_factory=time.monotonic)
    last_used: float = field(default_factory=time.monotonic)
    active_requests: int = 0
    """Requests in progress: a shell with any is not idle."""

    def command(self, identifier: str) -> Command:
        """Return the command with that identifier. Raises SoapFault where there is none."""
        command = self.commands.get(identifier.upper())
        if command is None:
            raise soap_faults.no_such_command()
        return command


class Shells:
    """All shells of the one user; deletes idle ones."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._shells: dict[str, Shell] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._delete_idle, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._shells)

    def process_ids(self) -> list[int]:
        """Return the identifiers of the running processes of all shells."""
        with self._changed:
            commands = [c for shell in self._shells.values() for c in shell.commands.values()]
        return [command.pid for command in commands if command.pid is not None]

    def add(self, shell: Shell) -> None:
        """Add a shell. Raises SoapFault beyond the quota."""
        with self._changed:
            if self._closed or len(self._shells) >= self._limits.max_shells_per_user:
                raise soap_faults.too_many_shells(self._limits.max_shells_per_user)
            if shell.identifier in self._shells:
                raise soap_faults.schema_violation("A shell with this ShellId exists already. ")
            self._shells[shell.identifier] = shell
            self._changed.notify_all()

    @contextmanager
    def using(self, identifier: str) -> Iterator[Shell]:
        """Yield the shell with that identifier, and keep it from being idle. Raises SoapFault."""
        with self._changed:
            shell = self._shells.get(identifier.upper())
            if shell is None:
                raise soap_faults.no_such_shell(identifier[:100])
            shell.active_requests += 1
        try:
            yield shell
        finally:
            with self._changed:
                shell.active_requests -= 1
                shell.last_used = time.monotonic()
                self._changed.notify_all()

    def add_command(self, shell: Shell, command: Command) -> None:
        """Add a command before it starts. Raises SoapFault beyond the quotas."""
        with self._changed:
            if shell.identifier not in self._shells:
                raise soap_faults.no_such_shell(shell.identifier)
            if shell.command_count >= self._limits.max_operations_per_shell:
                raise soap_faults.too_many_operations(self._limits.max_operations_per_shell)
            running = sum(command.pid is not None for command in shell.commands.values())
            if running >= self._limits.max_processes_per_shell:
                raise soap_faults.too_many_processes(self._limits.max_processes_per_shell)
            if command.identifier in shell.commands:
                raise soap_faults.schema_violation("A command with this CommandId exists already. ")
            shell.command_count += 1
            shell.commands[command.identifier] = command

    def drop_command(self, shell: Shell, identifier: str) -> Command:
        """Remove a command from its shell and return it. Raises SoapFault where there is none."""
        with self._changed:
            command = shell.command(identifier)
            del shell.commands[command.identifier]
        return command

    def delete(self, identifier: str) -> None:
        """Remove a shell and kill its processes. Raises SoapFault where there is none."""
        with self._changed:
            shell = self._shells.pop(identifier.upper(), None)
            if shell is None:
                raise soap_faults.no_such_shell(identifier[:100])
            commands = list(shell.commands.values())
            shell.commands.clear()
        for command in commands:
            command.terminate()

    def _delete_idle(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                left = {
                    shell.identifier: shell.last_used + shell.idle_timeout - now
                    for shell in self._shells.values()
                    if not shell.active_requests
                }
                expired = [name for name, seconds in left.items() if seconds <= 0]
                if not expired:
                    self._changed.wait(min(left.values(), default=None))
            for name in expired:
                self._delete_quietly(name)

    def _delete_quietly(self, name: str) -> None:
        try:
            self.delete(name)
        except soap_faults.SoapFault:
            return  # its client has deleted it

    def kill(self, identifier: str) -> None:
        """Kill the processes of a shell, and keep the shell; do nothing where there is none."""
        shell = self._shells.get(identifier.upper())
        for command in list(shell.commands.values()) if shell is not None else ():
            command.kill()

    def close(self) -> None:
        """Delete every shell."""
        with self._changed:
            self._closed = True
            names = list(self._shells)
            self._changed.notify_all()
        for name in names:
            self._delete_quietly(name)
        self._thread.join(timeout=5)


def new_identifier() -> str:
    """Return a new identifier, in capitals as Windows writes them."""
    return str(uuid.uuid4()).upper()
