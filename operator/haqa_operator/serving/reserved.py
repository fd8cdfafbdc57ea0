"""Settings of vLLM that a tuning may not set, each with the reason and what to do instead.

Three kinds: what HAQA sets itself, what would make the measurement measure something else, and what makes the engine
load code or open files that nobody reviewed.
"""

from __future__ import annotations

import re

_MODEL = "the artifact that HAQA makes from spec.model is what is served"
_ADDRESS = "HAQA decides where the engine listens"
_SECRET = "a secret does not belong in a tuning, its trials or a manifest"  # noqa: S105, a sentence
_CODE = "it makes the engine load Python code"
_ELSEWHERE = "it makes the engine talk to an address that the installation has not allowed"
_ADAPTERS = "it follows from the adapters; set spec.model.adapters"
_LAYOUT = "a HAQA replica is one engine on one node; scale with replicas"
_API = "it changes the replies that accuracy is measured from"

RESERVED_SETTINGS: dict[str, str] = {
    "model": f"{_MODEL}; set spec.model.uri",
    "tokenizer": f"{_MODEL}, its tokenizer included",
    "revision": f"{_MODEL}; set spec.model.revision",
    "code-revision": f"{_MODEL}; set spec.model.revision",
    "tokenizer-revision": f"{_MODEL}; set spec.model.revision",
    "hf-config-path": _MODEL,
    "download-dir": _MODEL,
    "quantization": "it follows from the artifact; set search.schemes",
    "quantization-config": "it follows from the artifact; set search.schemes",
    "served-model-name": "HAQA names the model after the tuning's model",
    "trust-remote-code": "set spec.model.trustRemoteCode, which quantizing has to know too",
    "enable-lora": _ADAPTERS,
    "lora-modules": _ADAPTERS,
    "lora-target-modules": _ADAPTERS,
    "max-lora-rank": _ADAPTERS,
    "hf-token": f"{_SECRET}; set spec.model.tokenSecretRef",
    "api-key": f"{_SECRET}; put an authenticating proxy in front of the Service",
    "config": "it would bring in settings that HAQA does not see; write them in search.fixedEngine",
    "host": _ADDRESS,
    "port": _ADDRESS,
    "uds": _ADDRESS,
    "root-path": _ADDRESS,
    "grpc": _ADDRESS,
    "grpc-port": _ADDRESS,
    "headless": _LAYOUT,
    "nnodes": _LAYOUT,
    "node-rank": _LAYOUT,
    "master-addr": _LAYOUT,
    "master-port": _LAYOUT,
    "device-ids": "the pod has exactly its own accelerators; set nodePools[].gpusPerReplica",
    "middleware": _CODE,
    "model-loader-extra-config": f"it names where weights come from, and {_MODEL}",
    "otlp-traces-endpoint": _ELSEWHERE,
    "collect-detailed-traces": _ELSEWHERE,
    "tool-server": _ELSEWHERE,
    "kv-events-config": _ELSEWHERE,
    "distributed-executor-backend": _LAYOUT,
    "logits-processors": _CODE,
    "scheduler-cls": _CODE,
    "worker-cls": _CODE,
    "worker-extension-cls": _CODE,
    "tool-parser-plugin": _CODE,
    "reasoning-parser-plugin": _CODE,
    "io-processor-plugin": _CODE,
    "model-class-overrides": _CODE,
    "allowed-local-media-path": "it lets requests read files of the pod",
    "log-config-file": "it names a file that the pod does not have",
    "logging-config": "it names files and classes that nobody reviewed",
    "disable-log-stats": "HAQA reads the engine's metrics, which this turns off",
    "max-logprobs": "HAQA measures accuracy from log-probabilities and needs vLLM's 20",
    "logprobs-mode": _API,
    "return-tokens-as-token-ids": _API,
    "tokens-only": _API,
    "skip-tokenizer-init": _API,
    "runner": "HAQA measures text generation",
    "convert": "HAQA measures text generation",
    "pooler-config": "HAQA measures text generation",
}

_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"ssl-.*|enable-ssl-refresh", "HAQA talks to the engine inside the pod; end TLS in front of the Service"),
    (r"data-parallel-(?!size$).*|api-server-count", _LAYOUT),
    (r"weight-transfer-config|kv-transfer-config|ec-transfer-config", _LAYOUT),
)

_VARIABLES: dict[str, str] = {
    "VLLM_PLUGINS": _CODE,
    "VLLM_ALLOW_INSECURE_SERIALIZATION": _CODE,
    "VLLM_RUST_FRONTEND_PATH": _CODE,
    "VLLM_NCCL_SO_PATH": _CODE,
    "VLLM_CUDART_SO_PATH": _CODE,
    "VLLM_SERVER_DEV_MODE": "it opens endpoints that change or stop the engine to every client",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "it lets every client load weights",
    "VLLM_HOST_IP": _ADDRESS,
    "VLLM_PORT": _ADDRESS,
    "VLLM_MODEL_REDIRECT_PATH": _MODEL,
    "VLLM_USE_MODELSCOPE": _MODEL,
    "VLLM_TEST_FORCE_LOAD_FORMAT": _MODEL,
    "VLLM_TARGET_DEVICE": "the device follows from the pool's image",
    "VLLM_LOGGING_CONFIG_PATH": "it names a file that the pod does not have",
    "VLLM_CONFIGURE_LOGGING": "HAQA reads the reason of a failed start from the engine's log",
    "VLLM_LOGGING_LEVEL": "HAQA reads the reason of a failed start from the engine's log",
}

_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|(^|_)(KEY|TOKEN)$")


def why_setting_is_reserved(name: str) -> str | None:
    """The reason why this command-line setting may not be set, or None when it may."""
    return RESERVED_SETTINGS.get(name) or next(
        (reason for pattern, reason in _PATTERNS if re.fullmatch(pattern, name)), None
    )


def why_variable_is_reserved(name: str) -> str | None:
    """The reason why this environment variable may not be set, or None when it may."""
    if _SECRET_NAME.search(name):
        return f"its name says that it is a secret, and {_SECRET}"
    return _VARIABLES.get(name)
