"""Whose certificates are trusted: the public authorities, and one more that a Secret names."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi

from haqa_operator.gitops.publications import PublishError


@contextmanager
def certificates(extra: str | None) -> Iterator[str]:
    """A file in PEM, as every HTTP library takes it.

    Raises:
        PublishError: what the Secret has is no certificate.
    """
    base = _installed()
    if extra is None:
        yield base
        return
    try:
        ssl.create_default_context(cadata=extra)
    except (ssl.SSLError, ValueError):
        raise PublishError(
            "spec.output.git.secretRef: the Secret's ca.crt holds no certificate; store it in PEM, beginning with "
            "-----BEGIN CERTIFICATE-----"
        ) from None
    with tempfile.NamedTemporaryFile("w", prefix="haqa-ca-", suffix=".pem") as file:
        file.write(f"{Path(base).read_text()}\n{extra}\n")
        file.flush()
        yield file.name


def _installed() -> str:
    """The installation's own bundle, where it names one."""
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = os.environ.get(variable)
        if path and Path(path).is_file():
            return path
    return certifi.where()
