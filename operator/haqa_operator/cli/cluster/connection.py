"""From a person's options to a cluster, and from its errors to sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from haqa_operator.api import SpecError
from haqa_operator.cluster.edges.api_server import ApiError, ApiRefused, ApiServer, UnknownKind

MANAGER = "haqa-cli"
"""Field manager of what a person changes."""

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the tuning; default: the context's")
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig; default: the current one")]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Default: that of $KUBECONFIG, else ~/.kube/config")
]

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)


class CommandError(Exception):
    """Cannot be done; the message says why, and what to do."""


@dataclass(frozen=True)
class Connection:
    """A cluster, and the namespace that is meant."""

    api: ApiServer
    namespace: str


def connect(namespace: str | None, context: str | None, kubeconfig: Path | None) -> Connection:
    """Raises ApiUnavailable: there is no cluster, or it does not answer."""
    # Here, since the client takes a second that commands without a cluster need not pay.
    from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi, context_namespace

    file = str(kubeconfig) if kubeconfig else None
    if file is not None and not Path(file).is_file():
        raise CommandError(f"--kubeconfig: {file}: no such file")
    return Connection(KubernetesApi.connect_as_person(file, context), namespace or context_namespace(file, context))


@contextmanager
def told() -> Iterator[None]:
    """Errors become sentences on standard error and exit code 2."""
    try:
        yield
    except CommandError as error:
        problems = [str(error)]
    except SpecError as error:
        problems = error.problems
    except ApiError as error:
        problems = [sentence(error)]
    else:
        return
    console = Console(stderr=True)
    for problem in problems:
        console.print(f"[red]error:[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code=2)


def sentence(error: ApiError) -> str:
    """What an error of the API server means for whoever typed the command."""
    text = str(error)
    if isinstance(error, UnknownKind):
        return (
            f"{text.split(':', 1)[0]}: this cluster does not know the kind; HAQA, or this part of it, is not installed"
        )
    found = _FORBIDDEN.search(text)
    if isinstance(error, ApiRefused) and error.status == 403 and found is not None:
        resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
        where = f"in namespace {found['namespace']}" if found["namespace"] else "in the cluster"
        return (
            f"you ({found['user']}) have no right to {found['verb']} {resource} {where}; ask for it, or use --context"
        )
    return text
