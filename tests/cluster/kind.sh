#!/bin/bash
# The test cluster in kind, for machines with Docker: kind.sh up | down. Needs kind, kubectl, and this checkout's .venv.
# Not run where this was written, which has no Docker: expect to fix a detail, and please report it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
kubeconfig=${HAQA_TEST_KUBECONFIG:-${TMPDIR:-/tmp}/haqa-kind.kubeconfig}

case ${1:-} in
up)
  kind create cluster --config "$here/kind.yaml" --kubeconfig "$kubeconfig" --wait 120s
  images=$(.venv/bin/python -c 'from tests.cluster.building import images; print(images())')
  kind load image-archive --name haqa "$images/busybox.tar"
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
