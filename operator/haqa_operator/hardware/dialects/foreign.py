"""Accelerators that vLLM may know and HAQA does not: their nodes are no CPU nodes either."""

from __future__ import annotations

import re

from haqa_operator.hardware.accelerators import HardwareError
from haqa_operator.hardware.nodes import Node

_RESOURCES: tuple[tuple[str, str], ...] = (
    (r"google\.com/tpu", "Google's TPU"),
    (r"aws\.amazon\.com/neuron.*", "AWS Neuron (Inferentia, Trainium)"),
    (r"qualcomm\.com/.*", "Qualcomm's Cloud AI"),
    (r"huawei\.com/[Aa]scend.*", "Huawei's Ascend"),
    (r"cambricon\.com/.*", "Cambricon's MLU"),
    (r"hygon\.com/.*", "Hygon's DCU"),
    (r"metax-tech\.com/.*", "MetaX's GPU"),
    (r"mthreads\.com/.*", "Moore Threads' GPU"),
    (r"iluvatar\..*/.*", "Iluvatar's GPU"),
    (r"furiosa\.ai/.*", "Furiosa's NPU"),
    (r"rebellions\.ai/.*", "Rebellions' NPU"),
    (r"tenstorrent\.com/.*", "Tenstorrent's card"),
    # Shares of GPUs by count or memory that some schedulers hand out, and whatever comes next.
    (r"(?!.*kubernetes\.io)[^/]+/.*(gpu|npu|tpu|xpu|mlu|dcu|accelerator).*", "accelerators"),
)
_LABELS: tuple[tuple[str, str, str], ...] = (
    ("cloud.google.com/gke-tpu-accelerator", r".+", "Google's TPU"),
    ("karpenter.k8s.aws/instance-accelerator-manufacturer", r"aws", "AWS Neuron (Inferentia, Trainium)"),
    ("eks.amazonaws.com/instance-accelerator-manufacturer", r"aws", "AWS Neuron (Inferentia, Trainium)"),
    ("karpenter.k8s.aws/instance-accelerator-name", r"(inferentia|trainium).*", "AWS Neuron (Inferentia, Trainium)"),
    ("eks.amazonaws.com/instance-accelerator-name", r"(inferentia|trainium).*", "AWS Neuron (Inferentia, Trainium)"),
    ("node.kubernetes.io/instance-type", r"(inf|trn)\d+\w*\..*", "AWS Neuron (Inferentia, Trainium)"),
    ("node.kubernetes.io/instance-type", r"(ct\d+\w*|tpu\d+\w*)-.*", "Google's TPU"),
)


def refuse(node: Node) -> None:
    """Says so where a node has accelerators that HAQA does not know.

    Raises:
        HardwareError: it has.
    """
    found = next(filter(None, (_by_resource(node), _by_label(node))), None)
    if found is not None:
        what, where = found
        raise HardwareError(
            f"node {node.name}: {where} says that it has {what}, for which HAQA knows no engine; select other nodes, "
            "set nodePools[].hardware.vendor (with deviceResource, product and memoryGib) where it is a GPU of NVIDIA, "
            "AMD or Intel under another name, or hardware.vendor cpu to serve on the processor"
        )


def _by_resource(node: Node) -> tuple[str, str] | None:
    for name, amount in node.allocatable.items():
        what = next((what for pattern, what in _RESOURCES if re.fullmatch(pattern, name)), None)
        if what is not None and amount not in ("", "0"):
            return what, f"the resource {name}"
    return None


def _by_label(node: Node) -> tuple[str, str] | None:
    for label, pattern, what in _LABELS:
        value = node.labels.get(label, "")
        if re.fullmatch(pattern, value):
            return what, f"the label {label}={value}"
    return None
