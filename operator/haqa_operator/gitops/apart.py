"""Publishing in a process of its own, which has a limit on its time, its memory and the size of its files.

A time-out of a socket starts anew with every byte, and a repository may be larger than the operator's memory. Neither
may become the operator's trouble, so the process is killed when its time is over. The request goes in by standard
input, so that no credentials are in its arguments or its environment.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops.publications import GitCredentials, Publication, Published, PublishError
from haqa_operator.gitops.publishing import publish, without_secrets

LIMIT_S: Final = 180.0
"""For one call, clone and push included."""
MEMORY_BYTES: Final = 1536 * 2**20
"""Of address space."""
FILE_BYTES: Final = 512 * 2**20
_PASSED_ON: Final = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PYTHONDONTWRITEBYTECODE",
)
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    publication: Publication
    output: GitOutput
    credentials: GitCredentials
    last: Published | None


class _Answer(BaseModel):
    published: Published | None = None
    error: str | None = None
    transient: bool = False


def publish_apart(
    publication: Publication,
    output: GitOutput,
    credentials: GitCredentials,
    last: Published | None = None,
    *,
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str] = os.environ,
) -> Published:
    """As `publishing.publish`, within limits.

    Raises:
        PublishError: with a sentence that names the field and the remedy.
    """
    request = _Request(publication=publication, output=output, credentials=credentials, last=last)
    with tempfile.TemporaryDirectory(prefix="haqa-git-") as home:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "haqa_operator.gitops.apart"],
                input=request.model_dump_json(by_alias=True).encode(),
                capture_output=True,
                timeout=limit_s,
                check=False,
                cwd=home,
                env=_environment(environment, home),
            )
        except subprocess.TimeoutExpired:
            raise PublishError(
                f"spec.output.git.url: {output.url} took longer than {limit_s:g} s; check that the server is up and "
                "the repository is not larger than it has to be. It is tried again",
                transient=True,
            ) from None
    try:
        answer = _Answer.model_validate_json(done.stdout.rpartition(b"\n")[2])
    except ValidationError:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise PublishError(
            f"spec.output.git: publishing ended with {done.returncode} and no answer: "
            f"{without_secrets(said, credentials)[:300]}; it is tried again",
            transient=True,
        ) from None
    if answer.published is not None:
        return answer.published
    raise PublishError(answer.error or "", transient=answer.transient)


def _environment(given: Mapping[str, str], home: str) -> dict[str, str]:
    """What a client needs; nothing of it may be a credential of the operator's, but for its proxy's."""
    kept = {name: given[name] for name in _PASSED_ON if name in given}
    kept |= {name: value for name, value in given.items() if name.lower() in _PROXIES}
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **kept, "HOME": home, "TMPDIR": home, "USER": "haqa"}


def _answer(request: _Request) -> _Answer:
    try:
        published = publish(request.publication, request.output, request.credentials, request.last)
        return _Answer(published=published)
    except PublishError as error:
        return _Answer(error=str(error), transient=error.transient)
    except (MemoryError, OSError) as error:
        said = without_secrets(str(error) or type(error).__name__, request.credentials)
        return _Answer(
            error=f"spec.output.git.url: {request.output.url} cannot be fetched here: {said}; is the repository larger "
            f"than {FILE_BYTES // 2**20} MiB?",
            transient=True,
        )
    except Exception as error:
        said = without_secrets(f"{type(error).__name__}: {error}", request.credentials)
        return _Answer(error=f"spec.output.git: internal error: {said}; please report it", transient=True)


def main() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    request = _Request.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(f"\n{_answer(request).model_dump_json()}")


if __name__ == "__main__":
    main()
