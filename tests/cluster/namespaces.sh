#!/bin/bash
# Process 1 of the cluster's mount, network and process namespaces: when it ends, the kernel ends every process and mount
# of the cluster with it. local_cluster.py starts it and gives it, by the environment:
#   RUN        the cluster's folder        PKI       its certificates      NODES   "name:gpus name:gpus"
#   NODE_IP    the bridge's address        API_PORT  of the API server     CGROUP  parent of all containers
#   IMAGES     folder of image archives    PATH      has the components and kubectl
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
trap 'exit 0' TERM INT

start() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >"$RUN/log/$name.log" 2>&1 </dev/null &
}

mount --make-rshared /
for folder in /run /var/log/containers /var/log/pods /var/lib/cni /var/lib/kubelet; do
  mkdir -p $folder
  mount -t tmpfs tmpfs $folder
done

# The kubelet insists on these settings, which belong to the machine and to no namespace: it is shown files that already
# say so, and the machine's own stay as they are.
mkdir -p /run/sysctl
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=/run/sysctl/$(echo "${setting%=*}" | tr / _)
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done

ip link set lo up
ip link add haqa0 type bridge
ip addr add "$NODE_IP/24" dev haqa0
ip link set haqa0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
ip route add 10.96.0.0/16 dev haqa0
mkdir -p "$RUN/cni"
cat >"$RUN/cni/10-bridge.conflist" <<EOF
{"cniVersion": "1.0.0", "name": "haqa", "plugins": [
 {"type": "bridge", "bridge": "haqa0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "routes": [{"dst": "0.0.0.0/0"}],
           "ranges": [[{"subnet": "10.244.0.0/24"}]]}}]}
EOF

# Data outlives no test run, so etcd may skip fsync.
start etcd etcd --data-dir "$RUN/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380
start kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --v=1 --profiling=false \
  --bind-address=0.0.0.0 --secure-port="$API_PORT" --advertise-address="$NODE_IP" \
  --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
  --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
  --kubelet-preferred-address-types=InternalIP,Hostname \
  --token-auth-file="$PKI/tokens.csv" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$PKI/sa.pub" \
  --service-account-signing-key-file="$PKI/sa.key" --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true \
  --audit-policy-file="$here/audit.yaml" --audit-log-path="$RUN/log/audit.json" --audit-log-maxsize=500

for node in $NODES; do
  start "node-${node%:*}" unshare --mount --propagation slave bash "$here/node.sh" "${node%:*}" "${node#*:}"
done

api_ready() { kubectl get --raw /readyz >/dev/null 2>&1; }
for _ in $(seq 600); do api_ready && break; sleep 0.1; done

# A controller-manager that starts before the API server is ready misses some of its kinds for good.
as() { echo "--kubeconfig=$RUN/$1.kubeconfig --authentication-kubeconfig=$RUN/$1.kubeconfig --authorization-kubeconfig=$RUN/$1.kubeconfig"; }
# shellcheck disable=SC2046
start kube-controller-manager kube-controller-manager $(as controllers) --bind-address=127.0.0.1 --leader-elect=false --v=1 \
  --use-service-account-credentials=true --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
  --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
  --node-monitor-period=1s --node-monitor-grace-period=20s
# shellcheck disable=SC2046
start kube-scheduler kube-scheduler $(as scheduler) --bind-address=127.0.0.1 --leader-elect=false --v=1
# All nodes share the network namespace, so one kube-proxy serves them all.
first=${NODES%%:*}
start kube-proxy kube-proxy --kubeconfig="$RUN/proxy.kubeconfig" --proxy-mode=iptables --hostname-override="$first" \
  --bind-address="$NODE_IP" --cluster-cidr=10.244.0.0/24 --conntrack-max-per-core=0 \
  --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0

# Orphans become children of process 1: reap them.
while :; do wait -n || true; sleep 0.2; done
