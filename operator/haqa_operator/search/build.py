"""The search space of one pool: what the tuning names, times what the hardware and the model allow.

Every combination of scheme, algorithm, group size and engine settings that the tuning names is either a candidate, or
the baseline, or part of an exclusion with a reason. Each is combined with the default settings of the platform
(`engine_defaults`), as far as they run. The candidates' order is the prior's after what recipes would have, with the
schemes taking turns, so that whoever starts at the front sees every scheme early.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, product, zip_longest
from math import prod

from haqa_contract import MADE_SCHEMES, Algorithm, Configuration, Scalar, Scheme, Workload
from haqa_contract.configuration import label_of
from haqa_contract.model_facts import with_head
from haqa_operator.api.goals import Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.decision.results import Exclusion
from haqa_operator.hardware.accelerators import Accelerator, Platform
from haqa_operator.search.algorithms import DEFAULT
from haqa_operator.search.artifact_policies import ARTIFACT_POLICIES, groups_divide_columns
from haqa_operator.search.cases import Case, Violation, first_violation
from haqa_operator.search.engine_defaults import Expectations
from haqa_operator.search.engine_defaults.joining import Deviations, Items, offers, plan
from haqa_operator.search.engine_policies import ENGINE_POLICIES, groups_divide_shards, parallel_sizes_fit_replica
from haqa_operator.search.model_profile import ModelProfile, Published
from haqa_operator.search.number_formats import FORMATS, PER_CHANNEL
from haqa_operator.search.prior import estimate, promise
from haqa_operator.search.requirements import note, product_bits, unmet
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.verdicts import Verdict, Verdicts, looked_at
from haqa_operator.serving.model_length import AUTO, MaxModelLen
from haqa_operator.serving.settings import why_not_taken
from haqa_operator.serving.versions import Version, parse_version

MAX_CANDIDATES = 50_000
"""Of all pools of a tuning. More cannot be shown, ordered and searched in reasonable time, nor is a budget of trials
any use for them."""

DEFAULT_SCHEMES: dict[Platform, tuple[Scheme, ...]] = {
    Platform.CUDA: (Scheme.BF16, Scheme.FP8_DYNAMIC, Scheme.W8A8_INT8, Scheme.W4A16, Scheme.NVFP4),
    Platform.ROCM: (Scheme.BF16, Scheme.FP8_DYNAMIC, Scheme.W8A8_INT8, Scheme.W4A16, Scheme.MXFP4),
    Platform.XPU: (Scheme.BF16, Scheme.FP8_DYNAMIC, Scheme.W8A8_INT8, Scheme.W4A16),
    Platform.GAUDI: (Scheme.BF16, Scheme.FP8_DYNAMIC, Scheme.W8A8_INT8, Scheme.W4A16),
    Platform.CPU: MADE_SCHEMES,
}
"""Considered where `search.schemes` is not given, as far as the device computes in them: on accelerators one scheme for
each kind of arithmetic, on CPU all, since there are few that load."""

_SMALLER_GROUPS = (64, 32, PER_CHANNEL)
"""Where 128, the scheme's own, does not divide a layer: what kernels on every platform take; last a scale a channel."""
_GROUPS_FIT = (parallel_sizes_fit_replica, groups_divide_columns, groups_divide_shards)

ENGINE_DEFAULT = "default"
"""As a value of a setting in `search.engine`: whatever vLLM does by itself."""

_DEFAULTS: dict[str, Scalar] = {
    "enforce-eager": False,
    "kv-cache-dtype": "auto",
    "dtype": "auto",
    "linear-backend": "auto",
    "optimization-level": 2,
    "performance-mode": "balanced",
    "pipeline-parallel-size": 1,
    "data-parallel-size": 1,
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
}
_ATTENTION_DEFAULTS: dict[str, Scalar] = {"enable-prefix-caching": True, "enable-chunked-prefill": True}
"""vLLM 0.32's defaults that are the same on every device (vllm/config); the second table where all layers are
attention. Writing one of them down is the same as leaving it out."""

_FIELDS = set(Configuration.model_fields)


class SpaceError(ValueError):
    """The space cannot be searched as asked for; the sentence says which field to change."""


@dataclass(frozen=True)
class _Artifact:
    """What is quantized, before engine settings."""

    scheme: Scheme
    algorithm: Algorithm = Algorithm.NONE
    group_size: int | None = None
    variant: str | None = None

    @classmethod
    def published(cls, found: Published) -> _Artifact:
        """A checkpoint that is served as it is."""
        if found.format is None:
            return cls(Scheme.BF16, Algorithm.PUBLISHED if found.variant else Algorithm.NONE, variant=found.variant)
        return cls(found.format.scheme, Algorithm.PUBLISHED, found.format.group_size, found.variant)

    @cached_property
    def weights(self) -> Configuration:
        """All that speed and memory depend on: any algorithm stands for those that make a format."""
        own = self.with_engine(())
        return own.model_copy(update={"algorithm": Algorithm.RTN}) if own.made else own

    def with_engine(self, engine: Items) -> Configuration:
        """Args:
        engine: Names, each once, and values.
        """
        # As validating would make it, but without a set of names and a copy of each setting for every candidate: half
        # of the memory of a space.
        return Configuration.model_construct(
            _FIELDS,
            scheme=self.scheme,
            algorithm=self.algorithm,
            group_size=self.group_size,
            variant=self.variant,
            engine=tuple(sorted(engine)),
        )


def build_space(
    search: Search,
    accelerator: Accelerator,
    model: ModelProfile | None,
    workload: Workload,
    engine_version: str,
    *,
    env: Mapping[str, str] | None = None,
    max_model_len: MaxModelLen = AUTO,
    objective: Objective | None = None,
    most: int = MAX_CANDIDATES,
) -> SearchSpace:
    """Everything that may be tried on one pool.

    Args:
        model: None where the config cannot be read here; then memory and shapes are left to the trials.
        engine_version: vLLM's, for example `0.32.0`.
        env: What the pool gives the engine as environment.
        max_model_len: What the engine gets where nothing else is set.
        objective: What candidates are bounded in; None = no bounds.
        most: Candidates at most; there are as many default settings among them as there is room for.

    Raises:
        SpaceError: more than `most` candidates, or a head to quantize that the model has not.
    """
    if search.quantize_head and model is not None and model.is_known:
        model = _with_head(model)
    omitted = _DEFAULTS | (_ATTENTION_DEFAULTS if model is not None and model.is_all_attention else {})
    fixed = _written(search.fixed_engine, omitted)
    itself = _Artifact.published(model.itself) if model else _Artifact(Scheme.BF16)
    baseline = itself.with_engine(_items(fixed))
    base_case = Case(
        accelerator,
        model,
        baseline,
        workload,
        parse_version(engine_version),
        env=env or {},
        max_model_len=max_model_len,
    )
    # Before anything is multiplied out: that alone may take more memory than there is.
    _check_size(search, 1, prod(len(values) for values in search.engine.values()), most)
    engines = _engines(search, fixed, omitted)
    lacking = [_not_in_release(engine, base_case.engine_version) for engine in engines]
    ruled_out = _RuledOut()
    allowed: list[_Artifact] = []
    for artifact in _artifacts(search, base_case, itself):
        configuration = artifact.with_engine(_items(fixed))
        violation = first_violation(replace(base_case, configuration=configuration), ARTIFACT_POLICIES)
        violation = _of_published(violation, artifact)
        if violation is None:
            allowed.append(artifact)
        else:
            ruled_out.add(configuration, violation, times=len(engines))
    _check_size(search, len(allowed), len(engines), most)
    joint = _Joint(search, base_case, _items(fixed), allowed, len(engines), most)
    verdicts = Verdicts(base_case, objective)
    found: list[_Candidate] = []
    for artifact in allowed:
        defaults, expectations = joint.of(artifact)
        for engine, not_there in zip(engines, lacking, strict=True):
            violation = not_there or verdicts.of(artifact.weights, looked_at(engine)).violation
            violation = _of_published(violation, artifact)
            if violation is not None and artifact.with_engine(engine) != baseline:
                ruled_out.add(artifact.with_engine(engine), violation)
            if not_there is not None:
                continue
            found += _candidates(artifact, engine, defaults, expectations, verdicts)
    ordered = _in_turns(candidate for candidate in found if candidate.configuration != baseline)
    reference = estimate(base_case)
    problem = _not_in_release(_items(fixed), base_case.engine_version) or first_violation(
        base_case, (*ARTIFACT_POLICIES, *ENGINE_POLICIES)
    )
    return SearchSpace(
        baseline=baseline,
        candidates=tuple(candidate.configuration for candidate in ordered),
        exclusions=ruled_out.exclusions(),
        baseline_problem=problem.reason if problem else None,
        notes=(*_notes(base_case, allowed), *joint.notes),
        variants=frozenset(variant.variant for variant in (model.variants if model else ()) if variant.variant),
        bounds={c.configuration: c.bound for c in ordered if c.bound is not None},
        speeds={c.configuration: c.estimate / reference for c in ordered},
    )


def _not_in_release(engine: Items, version: Version) -> Violation | None:
    """A setting that other releases have and the pool's engine does not."""
    found = ((name, why_not_taken(name, value, version)) for name, value in engine)
    return next((Violation(reason, (name,)) for name, reason in found if reason), None)


def _with_head(model: ModelProfile) -> ModelProfile:
    if not model.facts.has_output_head:
        raise SpaceError(
            f"spec.search.quantizeHead true: the output head of {model.facts.architecture} is its embedding table, "
            "which stays as it is; leave quantizeHead out"
        )
    return replace(model, facts=with_head(model.facts))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A configuration that may run, with what its place in the order depends on.

    Attributes:
        recipe: What vLLM's recipes would have for its quantization.
    """

    configuration: Configuration
    estimate: float
    bound: float | None
    recipe: bool

    @property
    def place(self) -> tuple[float, int, int]:
        """Sort key."""
        return promise(self.configuration, self.estimate)


def _candidates(
    artifact: _Artifact, engine: Items, defaults: Deviations, expectations: Expectations, verdicts: Verdicts
) -> Iterator[_Candidate]:
    """All that may run of one quantization with one combination of the tuning's own settings."""
    own, seen = expectations.factor(dict(engine)), looked_at(engine)

    def verdict_on(items: Items) -> Verdict:
        return verdicts.of(artifact.weights, seen + looked_at(items))

    recipe = defaults.recipe(lambda items: verdict_on(items).violation is None)
    others = (one for one in defaults.all if recipe is None or one.items != recipe.items)
    for deviation in chain((recipe,) if recipe else (), others):
        verdict = verdict_on(deviation.items)
        if verdict.violation is None:
            yield _Candidate(
                artifact.with_engine(engine + deviation.items),
                verdict.estimate * own * deviation.factor,
                verdict.bound,
                deviation is recipe,
            )


class _Joint:
    """The default settings that each quantization is combined with; none where the tuning turned them off."""

    def __init__(
        self, search: Search, case: Case, fixed: Items, artifacts: Sequence[_Artifact], engines: int, most: int
    ) -> None:
        named = {*search.engine, *search.fixed_engine, *case.env}
        self._cases = {a: replace(case, configuration=a.with_engine(fixed)) for a in artifacts}
        self._offers = {a: offers(c, named) if search.engine_defaults else () for a, c in self._cases.items()}
        self._plan = plan(list(self._offers.values()), engines, most)

    def of(self, artifact: _Artifact) -> tuple[Deviations, Expectations]:
        case = self._cases[artifact]
        return Deviations(case, self._offers[artifact], self._plan), Expectations(case)

    @property
    def notes(self) -> tuple[str, ...]:
        return (self._plan.note,) if self._plan.note else ()


def _of_published(violation: Violation | None, artifact: _Artifact) -> Violation | None:
    """Of a published checkpoint: that one is at fault, and not what else is in its format."""
    if violation is None or artifact.variant is None or "variant" in violation.parameters:
        return violation
    others = (name for name in violation.parameters if name not in ("scheme", "group-size"))
    return Violation(f"model.variants {label_of(artifact.variant)}: {violation.reason}", ("variant", *others))


def _artifacts(search: Search, case: Case, itself: _Artifact) -> list[_Artifact]:
    """Every combination of scheme, algorithm and group size that the search names; its defaults where it names none.

    Beside them the model's published variants, whatever the search names. Of a model that is quantized already nothing
    is made.
    """
    variants = [_Artifact.published(variant) for variant in (case.model.variants if case.model else ())]
    if itself.algorithm is Algorithm.PUBLISHED:
        return list(dict.fromkeys((itself, *variants)))
    found = variants
    for scheme in search.schemes or _default_schemes(case):
        algorithms: Sequence[Algorithm] = (Algorithm.NONE,)
        if scheme is not Scheme.BF16:
            algorithms = search.algorithms or DEFAULT[scheme]
        sizes = _group_sizes(search, scheme, case)
        found += [_Artifact(scheme, a, size) for a, size in product(algorithms, sizes)]
    return list(dict.fromkeys(found))


def _group_sizes(search: Search, scheme: Scheme, case: Case) -> Sequence[int | None]:
    """Those that the search names; where it names none, the scheme's own or the largest smaller one that fits."""
    if not FORMATS[scheme].groups_chosen:
        return (None,)
    if search.group_sizes:
        return search.group_sizes
    for size in (None, *_SMALLER_GROUPS):
        configuration = Configuration(scheme=scheme, group_size=size, engine=case.configuration.engine)
        if first_violation(replace(case, configuration=configuration), _GROUPS_FIT) is None:
            return (size,)
    return (None,)


def _default_schemes(case: Case) -> tuple[Scheme, ...]:
    """The platform's short list, and what the device refuses of all schemes, so that the reason is on record.

    Of the short list, what the device computes in, and weight-only fall-backs of 8 bits: those of 4 save no more than
    W4A16 does.
    """
    accelerator, version = case.accelerator, case.engine_version
    refused = {scheme for scheme in MADE_SCHEMES if unmet(accelerator, scheme, version)}
    listed = DEFAULT_SCHEMES[accelerator.platform]
    like_w4a16 = {
        s
        for s in (listed if accelerator.platform is not Platform.CPU else ())
        if s is not Scheme.W4A16 and FORMATS[s].weight_bits == 4 and product_bits(accelerator, s, version) == 16
    }
    return tuple(s for s in MADE_SCHEMES if s in refused or (s in listed and s not in like_w4a16))


def _engines(search: Search, fixed: dict[str, Scalar], omitted: Mapping[str, Scalar]) -> list[Items]:
    """Every distinct combination of the tuning's own settings, without those that say what vLLM does anyway."""
    choices = []
    for name, values in search.engine.items():
        # By text: True and 1 are equal as keys, and different as settings.
        written = {repr(one): tuple(one.items()) for value in values for one in [_written({name: value}, omitted)]}
        choices.append(tuple(written.values()))
    return [_items(fixed | dict(chain.from_iterable(chosen))) for chosen in product(*choices)]


def _items(engine: Mapping[str, Scalar]) -> Items:
    return tuple(sorted(engine.items()))


def _written(engine: Mapping[str, Scalar], omitted: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Settings that have to be written down: not vLLM's default, nor the word for it."""
    return {
        name: value
        for name, value in engine.items()
        if value != ENGINE_DEFAULT and not (name in omitted and repr(value) == repr(omitted[name]))
    }


def _check_size(search: Search, artifacts: int, engines: int, most: int) -> None:
    if artifacts * engines <= most:
        return
    sizes = {f"search.engine.{name}": len(values) for name, values in search.engine.items()}
    sizes["search.groupSizes"] = len(search.group_sizes)
    widest = max(sizes, key=lambda name: sizes[name])
    factor = -(-artifacts * engines // most)
    shared = "" if most == MAX_CANDIDATES else f", this pool's share of the tuning's {MAX_CANDIDATES:,}"
    raise SpaceError(
        f"spec.search: {artifacts} quantizations x {prod(len(v) for v in search.engine.values())} combinations of "
        f"engine settings are more than {most:,} candidates{shared}; leave out values, first of {widest} "
        f"({sizes[widest]} of them), so that there are {factor} times fewer"
    )


def _in_turns(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """The most promising first, schemes and published checkpoints in turn: the best of each, which is its recipe, then
    the second best."""
    by_weights: dict[tuple[Scheme, str | None], list[_Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.place):
        weights = (candidate.configuration.scheme, candidate.configuration.variant)
        by_weights.setdefault(weights, []).append(candidate)
    turns = sorted((_recipe_first(each) for each in by_weights.values()), key=lambda each: each[0].place)
    return [one for turn in zip_longest(*turns) for one in turn if one is not None]


def _recipe_first(ordered: list[_Candidate]) -> list[_Candidate]:
    """One recipe: that of the most promising algorithm."""
    recipe = next((place for place, candidate in enumerate(ordered) if candidate.recipe), 0)
    return [ordered[recipe], *ordered[:recipe], *ordered[recipe + 1 :]]


def _notes(case: Case, artifacts: Sequence[_Artifact]) -> tuple[str, ...]:
    schemes = dict.fromkeys(artifact.scheme for artifact in artifacts)
    texts = [note(case.accelerator, scheme, case.engine_version) for scheme in schemes]
    facts = case.model.facts if case.model else None
    if facts is not None and facts.quantized_by:
        texts.append(
            f"the model is quantized already ({facts.quantized_by}), and quantizing it again would lose twice: it is "
            "served as it is. For other schemes name the unquantized model, and this one in model.variants"
        )
    texts += [_described(variant) for variant in (case.model.variants if case.model else ())]
    return tuple(text for text in texts if text)


def _described(variant: Published) -> str:
    size = f", {variant.weight_bytes / 2**30:.3g} GiB" if variant.weight_bytes else ""
    if variant.format is None:
        return f"{variant.name} is not quantized{size}"
    scheme = variant.format.scheme
    like = "in a format of its own" if scheme is Scheme.OTHER else f"computed like {scheme.value}"
    return f"{variant.name} is {variant.format.name}{size}, {like}"


@dataclass
class _RuledOut:
    """Exclusions while they are counted: one for each reason and the parameter values behind it."""

    counts: dict[tuple[str, tuple[tuple[str, Scalar], ...]], int] = field(default_factory=dict)

    def add(self, configuration: Configuration, violation: Violation, times: int = 1) -> None:
        parameters = configuration.parameters
        values = tuple((name, parameters[name]) for name in violation.parameters if name in parameters)
        key = (violation.reason, values)
        self.counts[key] = self.counts.get(key, 0) + times

    def exclusions(self) -> tuple[Exclusion, ...]:
        return tuple(
            Exclusion(parameters=dict(values), reason=reason, configurations=count)
            for (reason, values), count in self.counts.items()
        )
