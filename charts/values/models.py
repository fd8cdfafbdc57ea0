"""The chart's values: what each is for, its type and its default.

values.yaml, its schema and its table in the docs are made from here, with the docstring below a field as what they say
of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
"""Of an object in Kubernetes; empty = none"""
Text = Annotated[str, Field(min_length=1)]
Glob = Annotated[str, Field(pattern=r"^[A-Za-z0-9*._:/@~=,%+-]+$", max_length=512)]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Namespaces = Annotated[list[Namespace], Field(json_schema_extra={"uniqueItems": True})]
Cidr = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Group = Annotated[int, Field(ge=1, le=2147483647)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Strings = dict[str, str]
Objects = list[dict[str, Any]]


class Values(BaseModel):
    """A section of the values, or an entry of a list in them."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", use_attribute_docstrings=True
    )


class Variable(Values):
    model_config = ConfigDict(extra="allow")

    name: Text


class PullSecret(Values):
    name: Name


class Volume(Values):
    name: Name
    mount_path: Annotated[str, Field(pattern="^/")]
    source: Annotated[dict[str, Any], Field(min_length=1)]


class SecretVariable(Values):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    secret: Name
    key: Text


class Image(Values):
    repository: Text = "haqa-operator"
    tag: str = ""
    """Or a digest, `sha256:…`. Empty: the chart's appVersion."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class Policy(Values):
    images: list[Glob] = [
        "vllm/vllm-openai",
        "vllm/vllm-openai-*",
        "docker.io/vllm/vllm-openai",
        "docker.io/vllm/vllm-openai-*",
    ]
    """Engine images of node pools (`nodePools[].image`), with or without tag and digest."""
    env: list[Glob] = [
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
    ]
    """Environment variables of the engine (`nodePools[].env`, `search.engine`, `search.fixedEngine`). None of these
    names a library, a plugin or a folder of compiled code that the engine would load."""
    engine_texts: list[Glob] = []
    """Strings in values of engine settings and variables that are more than words and numbers: paths, addresses, names
    of models (a draft model in `speculative-config`) and of code (a backend in `compilation-config`)."""
    models: list[Glob] = ["hf://**", "pvc://models/**"]
    """Where models, variants and adapters may be: `hf://ORG/NAME`, `s3://BUCKET/PATH`, `pvc://CLAIM/PATH`."""
    remote_code: list[Glob] = []
    """Models whose own Python code may run (`model.trustRemoteCode`), written as in `models`."""
    datasets: list[Glob] = ["builtin://**", "hf://**"]
    """Text of calibration, evaluation and load."""
    task_paths: list[Glob] = []
    """Folders with lm-eval tasks, which are code (`evaluation.taskPath`)."""
    artifacts: list[Glob] = ["pvc://artifacts"]
    """Where quantized models are kept: `pvc://CLAIM`, `s3://BUCKET/PREFIX`."""
    agent_models: list[Glob] = ["**"]
    """LLMs of agents (`search.agent.model`); without `apiBase` they are asked at their providers' public addresses."""
    agent_endpoints: list[Glob] = []
    """Addresses of LLMs (`search.agent.apiBase`), for example `http://vllm.models:8000/v1`. The operator talks to
    them."""
    git_servers: list[Glob] = []
    """Repositories that winners are written to (`output.git.url`) and addresses of APIs for pull requests
    (`pullRequest.apiBase`), for example `https://github.com/ORG/*`. The operator talks to them."""
    secrets: list[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]] = []
    """Names of the Secrets that tunings may use. The operator may read these and no others."""
    secret_label: Annotated[str, Field(pattern=r"^$|^[A-Za-z0-9._/-]+=[A-Za-z0-9._-]*$")] = ""
    """`KEY=VALUE`: a label by which whoever owns a Secret gives it to tunings, for example `haqa.dev/use-by=tunings`.
    The operator then may read every Secret of the namespaces, since rights go by name. Empty: by `secrets` alone."""
    tolerations: list[Glob] = ["nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/*", "habana.ai/*"]
    """Keys of taints that pods may tolerate."""
    device_resources: list[Glob] = ["nvidia.com/*", "amd.com/*", "gpu.intel.com/*", "habana.ai/*"]
    """Extended resources (`nodePools[].deviceResource`)."""
    resource_claim_templates: list[Glob] = []
    """Names of ResourceClaimTemplates, for devices by DRA."""
    runtime_classes: list[Glob] = []
    """Names of RuntimeClasses."""
    supplemental_groups: list[Group] = []
    """Groups of the nodes, by number."""
    priority_classes: list[Glob] = []
    """Names of PriorityClasses."""
    service_accounts: list[Glob] = []
    """Names of ServiceAccounts."""
    schedulers: list[Glob] = []
    """Names of schedulers."""
    pod_labels: list[Glob] = []
    """Keys of labels of pods: Services, network policies and webhooks act on them."""
    pod_annotations: list[Glob] = []
    """Keys of annotations of pods: webhooks, network plugins and runtimes act on them."""
    adopt: bool = False
    """Whether a winner may take over a Deployment that HAQA did not make (`output.deployment.adopt`)."""
    max_trials: Count = 1000
    """The most trials that a tuning may ask for in each pool; 0: no limit."""
    max_gpu_hours: Annotated[float, Field(ge=0)] = 0
    """The most accelerator-hours of a pool, which a tuning then has to name; 0: no limit."""
    max_agent_tokens: Count = 0
    """The most tokens of an agent in each pool, which a tuning then has to name; 0: no limit."""
    max_parallel_trials: Count = 0
    """The most trials at once in a pool; 0: no limit."""
    max_replicas: Count = 0
    """The most replicas of a winner when it is made; 0: no limit."""


class Admission(Values):
    enabled: bool = True
    """The API server checks `policy` too (ValidatingAdmissionPolicy), so that `kubectl apply` says what is not allowed.
    `false`: the operator alone does, and says it in a condition."""


class RunnerImage(Values):
    repository: Text = "haqa-runner"
    tag: str = ""
    """Or a digest, `sha256:…`. Empty: the chart's appVersion."""


class RunnerImages(Values):
    amd: str = ""
    cpu: str = ""


class Runner(Values):
    image: RunnerImage = RunnerImage()
    """In pools of NVIDIA's."""
    images: RunnerImages = RunnerImages()
    """In pools of AMD's, and in all others. Empty: the same name with `-rocm` or `-cpu` after its tag, and the same
    image where the tag is a digest."""
    command: list[str] = []
    """How it is started; empty: `python3 -m haqa_runner`."""
    env: Strings = {}
    """Variables for it, for example `{AWS_ENDPOINT_URL: "https://minio.example"}`. No secrets: those go by
    reference."""
    secrets: list[SecretVariable] = []
    """Variables from Secrets of the tunings' namespaces, for example for a bucket:
    `[{name: AWS_SECRET_ACCESS_KEY, secret: bucket, key: secretKey}]`."""


class Engine(Values):
    image: str = ""
    """Replaces the official vLLM image of every pool that names none; empty: by the pool's hardware."""
    command: list[str] = []
    """How vLLM is started in it; empty: `python3 -m vllm.entrypoints.openai.api_server`."""


class PrometheusLabels(Values):
    namespace: str = ""
    pod: str = ""


class BearerToken(Values):
    existing_secret: Name = ""
    key: Text = "token"


class BasicAuth(Values):
    existing_secret: Name = ""
    username_key: Text = "username"
    password_key: Text = "password"  # noqa: S105, the name of a key


class CertificateAuthorities(Values):
    existing_secret: Name = ""
    key: Text = "ca.crt"


class Prometheus(Values):
    url: Annotated[str, Field(pattern=r"^(https?://[^@?#]+)?$")] = ""
    """Where latency and throughput are read, for example `http://prometheus.monitoring:9090`. Empty: the runner's own
    figures."""
    scrape_interval_seconds: Seconds = 15
    """How often Prometheus scrapes the trials' pods; a trial stays up for two scrapes after its last request."""
    labels: PrometheusLabels = PrometheusLabels()
    """Labels by which it tells namespace and pod; empty: `namespace` and `pod`."""
    timeout_seconds: Seconds = 10
    """Longest time for one query."""
    verify: bool = True
    """`false`: certificates are not checked. For trying out; give `ca` instead."""
    bearer_token: BearerToken = BearerToken()
    """At most one of the three ways to log in: a token, read anew for each query. Secrets are in the operator's
    namespace."""
    basic_auth: BasicAuth = BasicAuth()
    """Another: a user name and a password."""
    service_account_token: bool = False
    """The third: the token of the operator's own service account, as OpenShift's monitoring wants it."""
    ca: CertificateAuthorities = CertificateAuthorities()
    """Certificates to trust instead of the usual authorities."""


class ApprovalPolicy(Values):
    enabled: bool = True
    """ValidatingAdmissionPolicies: whoever creates a QuantizationApproval does so in their own name, and `approval:
    Manual` is taken out of a tuning by nobody but those who may. `false`: somebody else sees to that, for otherwise the
    name in an approval proves nothing."""
    required: bool = False
    """`true`: nobody but those who may create approvals writes a tuning that deploys its winner without one."""


class Approvals(Values):
    policy: ApprovalPolicy = ApprovalPolicy()


class ServiceAccount(Values):
    create: bool = True
    name: Name = ""
    """Empty: the full name of the release."""
    annotations: Strings = {}


class Rbac(Values):
    create: bool = True
    """`false`: somebody else gives the service account the rights in docs/installing.md."""
    user_roles: bool = True
    """ClusterRoles for people who read, write and approve, added to the cluster's own view, edit and admin."""


class Kserve(Values):
    enabled: bool = False
    """Rights on KServe's InferenceServices, for tunings with `output.target: KServe`."""


class ApiServer(Values):
    cidrs: list[Cidr] = ["0.0.0.0/0"]
    ports: list[Port] = [443, 6443]


class PublicAddresses(Values):
    cidrs: list[Cidr] = ["0.0.0.0/0"]
    except_: Annotated[list[Cidr], Field(alias="except")] = [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
    ]
    ports: list[Port] = [443]


class NetworkPolicies(Values):
    enabled: bool = False
    """NetworkPolicies for the operator and, in `watchNamespaces` or in the namespaces below, for the pods of tunings.
    They need a network plugin that enforces them."""
    namespaces: Namespaces = []
    """Of tunings, where `watchNamespaces` is empty."""
    api_server: ApiServer = ApiServer()
    """Addresses of the API server; narrower ones keep the operator from what else listens on these ports."""
    public: PublicAddresses = PublicAddresses()
    """Addresses of the hub, of buckets and of public LLMs, over HTTPS, and what is left out of them: the private
    ones."""
    operator_egress: Objects = []
    """More that the operator may reach, as `egress` of a NetworkPolicy: a Prometheus or an LLM inside the cluster."""
    tunings_egress: Objects = []
    """More that the pods of tunings may reach, as `egress`: a bucket inside the cluster."""
    scraped_from: Objects = []
    """Who may scrape the operator and trials, as `from` of a NetworkPolicy; empty: everybody."""
    served_to: Objects = []
    """Who may use winners, as `from` of a NetworkPolicy; empty: everybody."""


class Crds(Values):
    enabled: bool = True
    """The definitions are part of the release, and an upgrade brings them up to date. `false`: somebody else applies
    files/crds."""
    keep: bool = True
    """`helm uninstall` leaves them, and with them all tunings and trials."""


class MetricsService(Values):
    enabled: bool = True
    """A Service for the operator's port. `helm test` needs it."""
    annotations: Strings = {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "8080",
    }
    """For a Prometheus that discovers by them."""


class ServiceMonitor(Values):
    enabled: bool = False
    """The operator's own metrics; with `metrics.service.enabled`."""
    interval: Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")] = "30s"
    labels: Strings = {}
    """By which a Prometheus takes it."""


class PodMonitor(Values):
    enabled: bool = False
    """Those of trials' and winners' engines, every `prometheus.scrapeIntervalSeconds`."""
    labels: Strings = {}


class Rules(Values):
    enabled: bool = False
    """Alerts; docs/operating.md has what to do about each."""
    labels: Strings = {}


class Dashboard(Values):
    enabled: bool = False
    """For Grafana, as a ConfigMap that its sidecar finds by these labels."""
    labels: Strings = {"grafana_dashboard": "1"}


class Metrics(Values):
    service: MetricsService = MetricsService()
    service_monitor: ServiceMonitor = ServiceMonitor()
    """This and the rest are for the Prometheus operator, and need its definitions."""
    pod_monitor: PodMonitor = PodMonitor()
    rules: Rules = Rules()
    dashboard: Dashboard = Dashboard()


class Limits(Values):
    startup_seconds: Seconds = 900
    """Start of an engine, loading its weights excepted: imports, compiling."""
    load_megabytes_per_second: Seconds = 200
    """Loading them comes on top, at this rate and to at most six hours: of the slowest that models are read from."""
    unschedulable_seconds: Seconds = 300
    """No node takes the pod."""
    image_pull_seconds: Seconds = 60
    """An image cannot be pulled."""
    not_starting_seconds: Seconds = 60
    """A container cannot be started: a Secret or a volume is missing."""
    node_lost_seconds: Seconds = 60
    """A node does not answer."""
    model_check_hours: Annotated[float, Field(ge=0)] = 24
    """How often a model that has been tuned is looked at again: a hub's branch moves, and files are written over. 0:
    never."""


class Log(Values):
    format: Literal["json", "text"] = "json"
    """`json`: one object a line, with the names of the tuning and the trial; `text`: for people."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Agent(Values):
    extra_env: list[Variable] = []
    """A proxy, or `SSL_CERT_FILE` for an LLM behind a private CA."""
    resources: dict[str, Any] = {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "768Mi"}}


class ChartValues(Values):
    image: Image = Image()
    """The operator's own image."""
    image_pull_secrets: list[PullSecret] = []
    """Names of Secrets for pulling the operator's image: `[{name: my-registry}]`."""
    name_override: str = ""
    """Replaces the chart's name in labels."""
    fullname_override: str = ""
    """Replaces the names of the objects."""
    watch_namespaces: Namespaces = []
    """The namespaces whose tunings are reconciled; its rights are then given there alone. Empty: all namespaces."""
    policy: Policy = Policy()
    """What tunings may ask for. Whoever may write them is not trusted with what others own: code, credentials, nodes,
    addresses, folders. Such fields are closed, except for what a list names; in an entry `*` stands for anything but a
    slash, `**` for anything. All else in a tuning is open. docs/security.md says what each entry gives away."""
    admission: Admission = Admission()
    user_id: Annotated[int, Field(ge=1)] | None = 10001
    """User of the operator's pod and of all pods of tunings. `null` leaves it to the cluster, as OpenShift wants."""
    runner: Runner = Runner()
    """What quantizes and measures, in the tunings' namespaces."""
    engine: Engine = Engine()
    extra_volumes: list[Volume] = []
    """Folders for every trial and every winner, for example an environment that lies on the nodes:
    `[{name: models, mountPath: /opt/models, source: {hostPath: {path: /opt/models}}}]`."""
    prometheus: Prometheus = Prometheus()
    approvals: Approvals = Approvals()
    service_account: ServiceAccount = ServiceAccount()
    rbac: Rbac = Rbac()
    kserve: Kserve = Kserve()
    network_policies: NetworkPolicies = NetworkPolicies()
    crds: Crds = Crds()
    metrics: Metrics = Metrics()
    limits: Limits = Limits()
    """How long something may last before it counts as a failure of the trial."""
    log: Log = Log()
    resources: dict[str, Any] = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
    """Of the operator."""
    tmp_size_limit: Quantity = "256Mi"
    """Space for temporary files; the root file system is read-only."""
    extra_env: list[Variable] = []
    """More variables for the operator, as in a container's `env`: a proxy for Git servers."""
    agent: Agent = Agent()
    """The container that talks to language models. It has no rights in the cluster."""
    extra_labels: Strings = {}
    """Labels for every object of the chart."""
    pod_labels: Strings = {}
    pod_annotations: Strings = {}
    node_selector: Strings = {}
    tolerations: Objects = []
    affinity: dict[str, Any] = {}
    priority_class_name: str = ""
