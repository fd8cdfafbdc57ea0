"""The cluster that the tests in this folder run against: one that they start themselves, or the one that is named.

HAQA_TEST_KUBECONFIG names the kubeconfig of any cluster (kind's, for one, or `make cluster`'s). Without it a cluster of
their own is started and stopped; where that is impossible the tests fail, as a skipped cluster test proves nothing.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cluster.building import CannotBuild, components, tools
from tests.cluster.building import prometheus_image as prometheus_archive
from tests.cluster.building import python_image as image_archive
from tests.cluster.building import s3_image as s3_archive
from tests.cluster.definitions import define
from tests.cluster.helm import Helm
from tests.cluster.image_building import operator_image as operator_archive
from tests.cluster.kubectl import Kubectl, Refused
from tests.cluster.local_cluster import CannotStart, LocalCluster
from tests.cluster.node_specs import NodeSpec, configured_nodes
from tests.cluster.waiting import wait_until


@pytest.fixture(scope="session")
def nodes() -> list[NodeSpec]:
    return configured_nodes()


@pytest.fixture(scope="session")
def cluster(nodes: list[NodeSpec]) -> Iterator[Kubectl]:
    """kubectl with all rights."""
    if given := os.environ.get("HAQA_TEST_KUBECONFIG"):
        yield _named(Path(given))
        return
    # Beside a cluster that somebody is using, so another folder and another port.
    own = LocalCluster.beside_others()
    problem = ""
    try:
        yield own.start(nodes)
    except (CannotBuild, CannotStart) as error:
        problem = f"{error}\nOr name the kubeconfig of another cluster in HAQA_TEST_KUBECONFIG."
    finally:
        own.stop()
    if problem:
        pytest.fail(problem, pytrace=False)


@pytest.fixture
def kubectl(cluster: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.run("create", "namespace", name)
    within = cluster.within(name)
    # Pods are refused until the controller has made their service account.
    wait_until(lambda: within.run("get", "serviceaccounts", "-o", "name"), 30, f"the service account of {name}")
    yield within
    cluster.run("delete", "namespace", name, "--wait=false")


def _named(kubeconfig: Path) -> Kubectl:
    kubectl = Kubectl(shutil.which("kubectl") or str(components() / "kubectl"), kubeconfig)
    problem = ""
    try:
        kubectl.run("get", "--raw", "/readyz")
    except Refused as error:
        problem = f"HAQA_TEST_KUBECONFIG={kubeconfig}: the cluster does not answer: {error}"
    if problem:
        pytest.fail(problem, pytrace=False)
    return kubectl


@pytest.fixture(scope="session")
def definitions(cluster: Kubectl) -> None:
    """The custom resource definitions, in the cluster."""
    define(cluster)


@pytest.fixture(scope="session")
def python_image(cluster: Kubectl) -> None:
    """An image with Python on every node."""
    _load(cluster, image_archive)


@pytest.fixture(scope="session")
def operator_image(cluster: Kubectl) -> None:
    """The operator's own image on every node."""
    _load(cluster, operator_archive)


def _load(cluster: Kubectl, archive: Callable[[], Path]) -> None:
    if os.environ.get("HAQA_TEST_KUBECONFIG"):
        # Whoever brings a cluster brings the images: `make cluster-load IMAGES="python s3 operator"`, or `kind load`.
        return
    LocalCluster(cluster.kubeconfig.parent, 0).load_image(archive())


@pytest.fixture(scope="session")
def prometheus_image(cluster: Kubectl) -> None:
    """Prometheus on every node."""
    _load(cluster, prometheus_archive)


@pytest.fixture(scope="session")
def s3_image(cluster: Kubectl) -> None:
    """An S3 server on every node."""
    _load(cluster, s3_archive)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm, for what needs no cluster."""
    return Helm(tools() / "helm", tmp_path_factory.mktemp("helm"))
