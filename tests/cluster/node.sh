#!/bin/bash
# One node, in a mount namespace of its own: containerd, the images, the kubelet and its fake GPUs.
# Usage: node.sh NAME GPUS, with the environment of namespaces.sh
set -euo pipefail
name=$1 gpus=$2
folder=$RUN/$name
mount --make-rshared /
mount --bind "$folder/root" /var/lib/kubelet
# A node that pretends to have more memory: its kubelet alone sees it.
if [ -f "$folder/meminfo" ]; then mount --bind "$folder/meminfo" /proc/meminfo; fi

# cgroup v1 has a tree for each controller, v2 a single one.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p "/sys/fs/cgroup/$CGROUP/$name"
else
  for controller in /sys/fs/cgroup/*/; do mkdir -p "$controller$CGROUP/$name" 2>/dev/null || true; done
fi

containerd -c "$folder/containerd.toml" >"$RUN/log/containerd-$name.log" 2>&1 &
echo $! >"$folder/containerd.pid"
client=(ctr --address "$folder/containerd/containerd.sock")
for _ in $(seq 100); do "${client[@]}" version >/dev/null 2>&1 && break; sleep 0.1; done
for image in "$IMAGES"/*.tar; do "${client[@]}" --namespace k8s.io images import "$image" >/dev/null; done

for _ in $(seq 600); do kubectl get --raw /readyz >/dev/null 2>&1 && break; sleep 0.1; done
kubelet --config="$folder/kubelet.yaml" --kubeconfig="$RUN/$name.kubeconfig" --hostname-override="$name" \
  --root-dir=/var/lib/kubelet --cert-dir="$folder/pki" --node-ip="$NODE_IP" >"$RUN/log/kubelet-$name.log" 2>&1 &
echo $! >"$folder/kubelet.pid"

if [ "$gpus" -gt 0 ]; then
  for _ in $(seq 600); do [ -S /var/lib/kubelet/device-plugins/kubelet.sock ] && break; sleep 0.1; done
  fake-gpu-plugin nvidia.com/gpu "$gpus" >"$RUN/log/gpus-$name.log" 2>&1 &
  echo $! >"$folder/gpus.pid"
fi
wait
