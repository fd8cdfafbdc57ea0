"""The chart's values: what each is for, its type and its default.

values.yaml, its schema and its table in the docs are made from here, with the docstring below a field as what they say
of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from haqa_operator.api.base import ResourceModel
from haqa_operator.cluster.policy.model import Policy

Name = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
"""Of an object in Kubernetes; empty = none"""
Text = Annotated[str, Field(min_length=1)]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Namespaces = Annotated[list[Namespace], Field(json_schema_extra={"uniqueItems": True})]
Cidr = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+/[0-9]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Strings = dict[str, str]
Objects = list[dict[str, Any]]


class Variable(ResourceModel):
    model_config = ConfigDict(extra="allow")

    name: Text


class PullSecret(ResourceModel):
    name: Name


class Volume(ResourceModel):
    name: Name
    mount_path: Annotated[str, Field(pattern="^/")]
    source: Annotated[dict[str, Any], Field(min_length=1)]


class SecretVariable(ResourceModel):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    secret: Name
    key: Text


class Image(ResourceModel):
    repository: Text = "haqa-operator"
    tag: str = ""
    """Or a digest, `sha256:…`. Empty: the chart's appVersion."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class Admission(ResourceModel):
    enabled: bool = True
    """The API server checks `policy` too (ValidatingAdmissionPolicy), so that `kubectl apply` says what is not allowed.
    `false`: the operator alone does, and says it in a condition."""


class RunnerImage(ResourceModel):
    repository: Text = "haqa-runner"
    tag: str = ""
    """Or a digest, `sha256:…`. Empty: the chart's appVersion."""


class RunnerImages(ResourceModel):
    amd: str = ""
    cpu: str = ""


class Runner(ResourceModel):
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


class Engine(ResourceModel):
    image: str = ""
    """Replaces the official vLLM image of every pool that names none; empty: by the pool's hardware."""
    command: list[str] = []
    """How vLLM is started in it; empty: `python3 -m vllm.entrypoints.openai.api_server`."""


class PrometheusLabels(ResourceModel):
    namespace: str = ""
    pod: str = ""


class BearerToken(ResourceModel):
    existing_secret: Name = ""
    key: Text = "token"


class BasicAuth(ResourceModel):
    existing_secret: Name = ""
    username_key: Text = "username"
    password_key: Text = "password"  # noqa: S105, the name of a key


class CertificateAuthorities(ResourceModel):
    existing_secret: Name = ""
    key: Text = "ca.crt"


class Prometheus(ResourceModel):
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


class ApprovalPolicy(ResourceModel):
    enabled: bool = True
    """ValidatingAdmissionPolicies: whoever creates a QuantizationApproval does so in their own name, and `approval:
    Manual` is taken out of a tuning by nobody but those who may. `false`: somebody else sees to that, for otherwise the
    name in an approval proves nothing."""
    required: bool = False
    """`true`: nobody but those who may create approvals writes a tuning that deploys its winner without one."""


class Approvals(ResourceModel):
    policy: ApprovalPolicy = ApprovalPolicy()


class ServiceAccount(ResourceModel):
    create: bool = True
    name: Name = ""
    """Empty: the full name of the release."""
    annotations: Strings = {}


class Rbac(ResourceModel):
    create: bool = True
    """`false`: somebody else gives the service account the rights in docs/installing.md."""
    user_roles: bool = True
    """ClusterRoles for people who read, write and approve, added to the cluster's own view, edit and admin."""


class Kserve(ResourceModel):
    enabled: bool = False
    """Rights on KServe's InferenceServices, for tunings with `output.target: KServe`."""


class ApiServer(ResourceModel):
    cidrs: list[Cidr] = ["0.0.0.0/0"]
    ports: list[Port] = [443, 6443]


class PublicAddresses(ResourceModel):
    cidrs: list[Cidr] = ["0.0.0.0/0"]
    except_: Annotated[list[Cidr], Field(alias="except")] = [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
    ]
    ports: list[Port] = [443]


class NetworkPolicies(ResourceModel):
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


class Crds(ResourceModel):
    enabled: bool = True
    """The definitions are part of the release, and an upgrade brings them up to date. `false`: somebody else applies
    files/crds."""
    keep: bool = True
    """`helm uninstall` leaves them, and with them all tunings and trials."""


class MetricsService(ResourceModel):
    enabled: bool = True
    """A Service for the operator's port. `helm test` needs it."""
    annotations: Strings = {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "8080",
    }
    """For a Prometheus that discovers by them."""


class ServiceMonitor(ResourceModel):
    enabled: bool = False
    """The operator's own metrics; with `metrics.service.enabled`."""
    interval: Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")] = "30s"
    labels: Strings = {}
    """By which a Prometheus takes it."""


class PodMonitor(ResourceModel):
    enabled: bool = False
    """Those of trials' and winners' engines, every `prometheus.scrapeIntervalSeconds`."""
    labels: Strings = {}


class Rules(ResourceModel):
    enabled: bool = False
    """Alerts; docs/operating.md has what to do about each."""
    labels: Strings = {}


class Dashboard(ResourceModel):
    enabled: bool = False
    """For Grafana, as a ConfigMap that its sidecar finds by these labels."""
    labels: Strings = {"grafana_dashboard": "1"}


class Metrics(ResourceModel):
    service: MetricsService = MetricsService()
    service_monitor: ServiceMonitor = ServiceMonitor()
    """This and the rest are for the Prometheus operator, and need its definitions."""
    pod_monitor: PodMonitor = PodMonitor()
    rules: Rules = Rules()
    dashboard: Dashboard = Dashboard()


class Limits(ResourceModel):
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


class Log(ResourceModel):
    format: Literal["json", "text"] = "json"
    """`json`: one object a line, with the names of the tuning and the trial; `text`: for people."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Agent(ResourceModel):
    extra_env: list[Variable] = []
    """A proxy, or `SSL_CERT_FILE` for an LLM behind a private CA."""
    resources: dict[str, Any] = {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "768Mi"}}


class ChartValues(ResourceModel):
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
