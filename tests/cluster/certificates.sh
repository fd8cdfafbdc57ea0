#!/bin/bash
# Makes the cluster's certificates in the folder PKI: a CA, the API server's certificate, its key for kubelets, and the
# key that signs service account tokens. Usage: certificates.sh PKI NODE_IP
set -euo pipefail
pki=$1 node_ip=$2
mkdir -p "$pki"
cd "$pki"
umask 077
quiet() { openssl "$@" 2>>openssl.log || { cat openssl.log >&2; exit 1; }; }
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

quiet req -x509 "${key[@]}" -keyout ca.key -out ca.crt -days 3650 -subj /CN=haqa-test-ca
quiet genrsa -out sa.key 2048
quiet rsa -in sa.key -pubout -out sa.pub

issue() { # NAME SUBJECT [NAMES]
  quiet req "${key[@]}" -keyout "$1.key" -out "$1.csr" -subj "$2"
  { echo extendedKeyUsage=serverAuth,clientAuth; [ -z "${3:-}" ] || echo "subjectAltName=$3"; } >"$1.ext"
  quiet x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 3650 -extfile "$1.ext"
}
issue apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:10.96.0.1,IP:$node_ip,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
issue kubelet-client /O=system:masters/CN=apiserver-kubelet-client
