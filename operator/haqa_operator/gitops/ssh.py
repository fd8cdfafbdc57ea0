"""git's ssh transport by paramiko: no ssh program, no user's files, and no host that is not known.

OpenSSH refuses to start for a user whom no file knows, which is what the operator is in its image and on OpenShift.
"""

from __future__ import annotations

import io
import time
from contextlib import suppress
from typing import Final

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from haqa_operator.gitops.publications import GitCredentials, PublishError

_KEYS: Final = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)
_PAUSES_S: Final = (0.2, 1.0, 3.0)
"""Before a server that hung up is asked again."""


class Connection:
    """A command on the server, in the shape that dulwich asks for.

    Its reads end with `TimeoutError` when nothing comes for the timeout.
    """

    def __init__(self, client: paramiko.SSHClient, channel: paramiko.Channel) -> None:
        self._client = client
        self._channel = channel
        self.stderr = channel.makefile_stderr("rb")

    def can_read(self) -> bool:
        return self._channel.recv_ready()

    def write(self, data: bytes) -> int:
        self._channel.sendall(data)
        return len(data)

    def read(self, size: int) -> bytes:
        """As many bytes as are asked for, fewer only at the end."""
        read = bytearray()
        while len(read) < size and (more := self._channel.recv(size - len(read))):
            read += more
        return bytes(read)

    def close(self) -> None:
        # All that was asked for has come: a server that has hung up before is nothing to complain of.
        with suppress(EOFError, OSError):
            self._channel.close()
        self._client.close()


class KnownHosts:
    """Opens connections to hosts whose keys the Secret has, with its key."""

    def __init__(self, credentials: GitCredentials, timeout_s: float) -> None:
        """Raises PublishError: the Secret lacks something, or it is not what it should be."""
        self._where = f"spec.output.git.secretRef: Secret {credentials.secret}"
        if credentials.ssh_private_key is None or credentials.known_hosts is None:
            missing = "ssh-privatekey" if credentials.ssh_private_key is None else "known_hosts"
            raise PublishError(f"{self._where} has no key {missing}, which an ssh address needs; add it")
        self._key = self._private_key(credentials.ssh_private_key, credentials.passphrase)
        self._hosts = self._host_keys(credentials.known_hosts)
        self._timeout_s = timeout_s

    def run_command(
        self, host: str, command: bytes, username: str | None = None, port: int | None = None, **_: object
    ) -> Connection:
        """Raises PublishError: the host is not known, does not answer, or does not let us in."""
        for pause_s in _PAUSES_S:
            try:
                return self._connected(host, command, username, port)
            except EOFError:
                # Hung up in the middle: a server that has too many at its door does (OpenSSH's MaxStartups).
                time.sleep(pause_s)
        return self._connected(host, command, username, port)

    def _connected(self, host: str, command: bytes, username: str | None, port: int | None) -> Connection:
        client = paramiko.SSHClient()
        for entry in self._hosts:
            for name in entry.hostnames or ():
                assert entry.key is not None
                client.get_host_keys().add(name, entry.key.get_name(), entry.key)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        shown = f"{host}:{port}" if port else host
        try:
            client.connect(
                host,
                port or 22,
                username or "git",
                pkey=self._key,
                timeout=self._timeout_s,
                banner_timeout=self._timeout_s,
                auth_timeout=self._timeout_s,
                channel_timeout=self._timeout_s,
                allow_agent=False,
                look_for_keys=False,
            )
            transport = client.get_transport()
            assert transport is not None
            channel = transport.open_session(timeout=self._timeout_s)
            channel.settimeout(self._timeout_s)
            channel.exec_command(command)
        except paramiko.BadHostKeyException:
            client.close()
            raise PublishError(
                f"{self._where}, key known_hosts: {shown} has another host key than that; if its operators say that it "
                "changed, store the new one, otherwise somebody is in between"
            ) from None
        except paramiko.AuthenticationException:
            client.close()
            raise PublishError(
                f"{self._where}, key ssh-privatekey: {shown} does not accept it for {username or 'git'}; add its "
                "public key there, with the right to write"
            ) from None
        except paramiko.SSHException as error:
            client.close()
            if "not found in known_hosts" in str(error):
                raise PublishError(
                    f"{self._where}, key known_hosts: {shown} is not in it; add what `ssh-keyscan` prints for it, once "
                    "you have compared it"
                ) from None
            raise
        except BaseException:
            client.close()
            raise
        return Connection(client, channel)

    def _private_key(self, text: str, passphrase: str | None) -> paramiko.PKey:
        for kind in _KEYS:
            try:
                return kind.from_private_key(io.StringIO(text), passphrase)
            except paramiko.PasswordRequiredException:
                raise PublishError(
                    f"{self._where}, key ssh-privatekey: it has a passphrase; add the key passphrase"
                ) from None
            except (paramiko.SSHException, ValueError, IndexError):
                continue
        raise PublishError(
            f"{self._where}, key ssh-privatekey: no Ed25519, ECDSA or RSA key, or the passphrase is another; store the "
            "file that ssh-keygen wrote"
        )

    def _host_keys(self, text: str) -> list[HostKeyEntry]:
        entries = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith(("#", "@")):
                continue
            try:
                entry = HostKeyEntry.from_line(line.strip(), number)
            except (InvalidHostKey, paramiko.SSHException, ValueError):
                entry = None
            if entry is not None and entry.key is not None:
                entries.append(entry)
        if not entries:
            raise PublishError(f"{self._where}, key known_hosts: no host key in it; store what `ssh-keyscan` prints")
        return entries
