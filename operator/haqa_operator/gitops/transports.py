"""Clients of git's protocol, over https and ssh, that talk to one server and wait for it only so long."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import urllib3
from dulwich.client import AbstractHttpGitClient, SSHGitClient, TraditionalGitClient, Urllib3HttpGitClient
from urllib3.util import Retry, Timeout, make_headers

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops.publications import GitCredentials, PublishError
from haqa_operator.gitops.targets import RepositoryAddress

TIMEOUT_S: Final = 30.0
"""For a connection, and for the next byte."""
DEFAULT_USER: Final = "x-access-token"
"""With a token: GitHub wants this name, the others take any."""

GitClient = AbstractHttpGitClient | TraditionalGitClient


def client_for(output: GitOutput, credentials: GitCredentials, bundle: str) -> tuple[GitClient, str]:
    """A client, and the repository's path as it wants it.

    Raises:
        PublishError: the Secret lacks what the address needs.
    """
    address = RepositoryAddress.parse(output.url)
    if address.scheme == "ssh":
        # paramiko takes its time to import, and https does without.
        from haqa_operator.gitops.ssh import KnownHosts

        vendor: Any = KnownHosts(credentials, TIMEOUT_S)
        return SSHGitClient(address.host, address.port, address.username, vendor, thin_packs=False), address.path
    secret = credentials.password or credentials.token
    if secret is None:
        raise PublishError(
            f"spec.output.git.secretRef: Secret {credentials.secret} has neither the key token nor username and "
            "password, which an https address needs; add one of them"
        )
    username = credentials.username or DEFAULT_USER
    return (
        Urllib3HttpGitClient(
            f"{address.origin}/",
            pool_manager=_pools(address, bundle),
            username=username,
            password=secret,
            timeout=TIMEOUT_S,
            thin_packs=False,
        ),
        address.path.lstrip("/"),
    )


class _Direct(urllib3.PoolManager):
    """To one origin alone: a redirect, or a pack that lies elsewhere, would take us to another."""

    origin: str

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        return super().urlopen(method, _checked(url, self.origin), redirect=False, **options)


class _ByProxy(urllib3.ProxyManager):
    origin: str

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        return super().urlopen(method, _checked(url, self.origin), redirect=False, **options)


def _checked(url: str, origin: str) -> str:
    if _origin(url) != _origin(origin):
        raise urllib3.exceptions.LocationValueError(f"a request to another server, {urlsplit(url).hostname}")
    return url


def _pools(address: RepositoryAddress, bundle: str) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        # Some forges answer git by the name of the client alone.
        "headers": {"User-Agent": "git/haqa"},
        "timeout": Timeout(connect=TIMEOUT_S, read=TIMEOUT_S),
        "retries": Retry(0, redirect=0),
        "ca_certs": bundle,
        "cert_reqs": "CERT_REQUIRED",
    }
    proxy = _proxy(address)
    if proxy is None:
        direct = _Direct(**options)
        direct.origin = address.origin
        return direct
    user = urlsplit(proxy).username
    if user is not None:
        options["proxy_headers"] = make_headers(proxy_basic_auth=f"{user}:{urlsplit(proxy).password or ''}")
    by_proxy = _ByProxy(proxy, **options)
    by_proxy.origin = address.origin
    return by_proxy


def _proxy(address: RepositoryAddress) -> str | None:
    """The installation's, out of the usual variables."""
    if proxy_bypass(f"{address.host}:{address.port}" if address.port else address.host):
        return None
    for name in (f"{address.scheme}_proxy", "all_proxy"):
        if proxy := os.environ.get(name) or os.environ.get(name.upper()):
            return proxy if "://" in proxy else f"http://{proxy}"
    return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
