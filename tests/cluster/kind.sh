#!/bin/bash
# The test cluster in kind, for machines with Docker: kind.sh up | down. Needs kind, kubectl, and this checkout's .venv.
# Not run where this was written, which has no Docker: expect to fix a detail, and please report it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
kubeconfig=${HAQA_TEST_KUBECONFIG:-${TMPDIR:-/tmp}/haqa-kind.kubeconfig}

case ${1:-} in
up)
  sed "s#CHECKOUT#$PWD#" "$here/kind.yaml" | kind create cluster --config - --kubeconfig "$kubeconfig" --wait 120s
  archives=$(.venv/bin/python -c '
from tests.cluster.building import images, prometheus_image, python_image, s3_image
from tests.cluster.image_building import operator_image
print(images() / "busybox.tar", python_image(), prometheus_image(), s3_image(), operator_image(), sep="\n")')
  for archive in $archives; do kind load image-archive --name haqa "$archive"; done
  .venv/bin/python -m tests.cluster.labelling "$kubeconfig" haqa-worker haqa-worker2 haqa-worker3
  echo "HAQA_TEST_KUBECONFIG=$kubeconfig make cluster-tests"
  ;;
down)
  kind delete cluster --name haqa --kubeconfig "$kubeconfig"
  ;;
*)
  echo "usage: kind.sh up | down" >&2
  exit 2
  ;;
esac
