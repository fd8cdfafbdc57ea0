"""The installation's policy: one value of the chart for everything by which a tuning reaches beyond itself.

Whoever may write tunings is not trusted with what others own: code, credentials, nodes, addresses, folders. Such fields
are closed, except for what a list here names. Everything else in a tuning is open.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import Field

from haqa_operator.api.base import ResourceModel

GLOB: Final = r"^[A-Za-z0-9*._:/@~=,%+-]+$"
"""Characters of an entry; none of them but `.`, `*` and `+` means anything in a regular expression."""

Glob = Annotated[str, Field(pattern=GLOB, max_length=512)]
Globs = tuple[Glob, ...]
Limit = Annotated[int, Field(ge=0)]

OFFICIAL_IMAGES: Final = (
    "vllm/vllm-openai",
    "vllm/vllm-openai-*",
    "docker.io/vllm/vllm-openai",
    "docker.io/vllm/vllm-openai-*",
)
PERFORMANCE_VARIABLES: Final = (
    "VLLM_ALLREDUCE_*",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "VLLM_ATTENTION_*",
    "VLLM_CPU_*",
    "VLLM_DISABLE_*",
    "VLLM_ENABLE_*",
    "VLLM_ENGINE_*",
    "VLLM_FLASH_ATTN_*",
    "VLLM_FLASHINFER_*",
    "VLLM_FUSED_MOE_*",
    "VLLM_MARLIN_*",
    "VLLM_MOE_*",
    "VLLM_ROCM_*",
    "VLLM_SKIP_WARMUP",
    "VLLM_USE_*",
    "VLLM_WORKER_MULTIPROC_METHOD",
    "ONEDNN_*",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MALLOC_*",
    "TCMALLOC_*",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_LAUNCH_BLOCKING",
    "NCCL_ALGO",
    "NCCL_DEBUG",
    "NCCL_IB_*",
    "NCCL_P2P_*",
    "NCCL_PROTO",
    "NCCL_SHM_*",
    "NCCL_SOCKET_*",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "HSA_ENABLE_*",
    "HSA_NO_SCRATCH_RECLAIM",
    "HSA_OVERRIDE_GFX_VERSION",
    "PT_HPU_ENABLE_*",
    "PT_HPU_LAZY_MODE",
    "TOKENIZERS_PARALLELISM",
)
"""None of these names a library, a plugin or a folder of compiled code that the engine would load."""


class Policy(ResourceModel):
    """What tunings may ask for. In an entry `*` stands for anything but a slash, `**` for anything."""

    images: Globs = OFFICIAL_IMAGES
    """Engine images of node pools (`nodePools[].image`), with or without tag and digest"""
    env: Globs = PERFORMANCE_VARIABLES
    """Environment variables of the engine (`nodePools[].env`, `search.engine`, `search.fixedEngine`). None of these
    names a library, a plugin or a folder of compiled code that the engine would load."""
    engine_texts: Globs = ()
    """Strings in values of engine settings and variables that are more than words and numbers: paths, addresses, names
    of models (a draft model in `speculative-config`) and of code (a backend in `compilation-config`)"""
    models: Globs = ("hf://**", "pvc://models/**")
    """Where models, variants and adapters may be: `hf://ORG/NAME`, `s3://BUCKET/PATH`, `pvc://CLAIM/PATH`"""
    remote_code: Globs = ()
    """Models whose own Python code may run (`model.trustRemoteCode`), written as in `models`"""
    datasets: Globs = ("builtin://**", "hf://**")
    """Text of calibration, evaluation and load"""
    task_paths: Globs = ()
    """Folders with lm-eval tasks, which are code (`evaluation.taskPath`)"""
    artifacts: Globs = ("pvc://artifacts",)
    """Where quantized models are kept: `pvc://CLAIM`, `s3://BUCKET/PREFIX`"""
    agent_models: Globs = ("**",)
    """LLMs of agents (`search.agent.model`); without `apiBase` they are asked at their providers' public addresses"""
    agent_endpoints: Globs = ()
    """Addresses of LLMs (`search.agent.apiBase`), for example `http://vllm.models:8000/v1`. The operator talks to
    them."""
    git_servers: Globs = ()
    """Repositories that winners are written to (`output.git.url`) and addresses of APIs for pull requests
    (`pullRequest.apiBase`), for example `https://github.com/ORG/*`. The operator talks to them."""
    secrets: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)], ...] = ()
    """Names of the Secrets that tunings may use. The operator may read these and no others."""
    secret_label: Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9._/-]+=[A-Za-z0-9._-]*$")] = ""
    """`KEY=VALUE`: a label by which whoever owns a Secret gives it to tunings, for example `haqa.dev/use-by=tunings`.
    The operator then may read every Secret of the namespaces, since rights go by name. Empty: by `secrets` alone."""
    tolerations: Globs = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/*", "habana.ai/*")
    """Keys of taints that pods may tolerate"""
    device_resources: Globs = ("nvidia.com/*", "amd.com/*", "gpu.intel.com/*", "habana.ai/*")
    """Extended resources (`nodePools[].deviceResource`)"""
    resource_claim_templates: Globs = ()
    """Names of ResourceClaimTemplates, for devices by DRA"""
    runtime_classes: Globs = ()
    """Names of RuntimeClasses"""
    supplemental_groups: tuple[Annotated[int, Field(ge=1, le=2_147_483_647)], ...] = ()
    """Groups of the nodes, by number"""
    priority_classes: Globs = ()
    """Names of PriorityClasses"""
    service_accounts: Globs = ()
    """Names of ServiceAccounts, whose identity in a cloud the pods would have"""
    schedulers: Globs = ()
    """Names of schedulers"""
    pod_labels: Globs = ()
    """Keys of labels of pods: Services, network policies and webhooks act on them"""
    pod_annotations: Globs = ()
    """Keys of annotations of pods: webhooks, network plugins and runtimes act on them"""
    adopt: bool = False
    """Whether a winner may take over a Deployment that HAQA did not make (`output.deployment.adopt`)"""
    max_trials: Limit = 1000
    """The most trials that a tuning may ask for in each pool; 0: no limit"""
    max_gpu_hours: Annotated[float, Field(ge=0)] = 0
    """The most accelerator-hours of a pool, which a tuning then has to name; 0: no limit"""
    max_agent_tokens: Limit = 0
    """The most tokens of an agent, which a tuning with an agent then has to name; 0: no limit"""
    max_parallel_trials: Limit = 0
    """The most trials at once in a pool; 0: no limit"""
    max_replicas: Limit = 0
    """The most replicas of a winner when it is made; 0: no limit"""

    @property
    def values(self) -> dict[str, Any]:
        """As in the chart's values."""
        found: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return found
