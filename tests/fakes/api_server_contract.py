"""What the operator relies on of an API server: the same tests for the real one and for the one in memory.

`class TestX(ApiServerContract)` with two fixtures: `api`, the server under test, and `somebody`, who writes to the same
objects under another name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import (
    CONFIG_MAP,
    EVENT,
    FIELD_MANAGER,
    FIRST_WRITER,
    TRIAL,
    TUNING,
    ApiRefused,
    ApiServer,
    ApiUnavailable,
    Kind,
)

_GARBAGE_LIMIT_S = 60.0


class Somebody(Protocol):
    """Another writer."""

    namespace: str

    def write(self, manifest: Manifest) -> None:
        """Applies a manifest, its status excepted."""


def config_map(namespace: str, name: str = "settings", labels: dict[str, str] | None = None, **data: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(namespace: str, replicas: int | None = None, image: str = "engine:1") -> Manifest:
    labels = {"app": "served"}
    containers = [{"name": "vllm", "image": image}]
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        **({"replicas": replicas} if replicas is not None else {}),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "served", "namespace": namespace},
        "spec": spec,
    }


def tuning(namespace: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": TUNING.api_version,
        "kind": TUNING.kind,
        "metadata": {"name": "demo", "namespace": namespace},
        "spec": {
            "model": {"uri": "pvc://models/model"},
            "nodePools": [{"name": "full", "nodeSelector": {"pool": "full"}}],
            "artifacts": {"pvc": "artifacts"},
            **spec,
        },
    }


def trial(namespace: str, owner: Manifest | None = None, name: str = "demo-full-000") -> Manifest:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if owner is not None:
        reference = {name: owner[name] for name in ("apiVersion", "kind")}
        reference |= {name: owner["metadata"][name] for name in ("name", "uid")}
        metadata["ownerReferences"] = [reference]
    spec = {"tuning": "demo", "pool": "full", "number": 0, "configuration": {"scheme": "BF16"}, "proposer": "baseline"}
    return {"apiVersion": TRIAL.api_version, "kind": TRIAL.kind, "metadata": metadata, "spec": spec}


def status_of(manifest: Manifest, **status: Any) -> Manifest:
    metadata = {name: manifest["metadata"][name] for name in ("name", "namespace")}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": metadata,
        "status": status,
    }


def named(manifest: Manifest, annotations: dict[str, str | None] | None = None, **parts: Any) -> Manifest:
    """Of a manifest its name alone, with these parts."""
    metadata = {name: manifest["metadata"][name] for name in ("name", "namespace")}
    more = {"annotations": annotations} if annotations else {}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": {**metadata, **more}, **parts}


def event(about: Manifest, name: str, message: str, kind: str = "Warning") -> Manifest:
    metadata = about["metadata"]
    involved = {"apiVersion": about["apiVersion"], "kind": about["kind"]}
    involved |= {name: metadata[name] for name in ("name", "namespace", "uid")}
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "type": kind,
        "reason": "Tested",
        "message": message,
        "involvedObject": involved,
    }


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _GARBAGE_LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class ApiServerContract:
    def test_what_is_not_there_is_none(self, api: ApiServer, somebody: Somebody) -> None:
        assert api.get(CONFIG_MAP, "settings", somebody.namespace) is None
        assert api.list(CONFIG_MAP, somebody.namespace, "haqa.dev/tuning=demo") == []

    def test_whoever_creates_second_changes_nothing(self, api: ApiServer, somebody: Somebody) -> None:
        created = api.create(config_map(somebody.namespace, a="1"))
        assert created is not None
        assert created["data"] == {"a": "1"}
        assert api.create(config_map(somebody.namespace, a="2")) is None
        found = api.get(CONFIG_MAP, "settings", somebody.namespace)
        assert found is not None
        assert found["data"] == {"a": "1"}

    def test_applying_twice_changes_nothing(self, api: ApiServer, somebody: Somebody) -> None:
        first = api.apply(config_map(somebody.namespace, a="1"))
        second = api.apply(config_map(somebody.namespace, a="1"))
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        changed = api.apply(config_map(somebody.namespace, a="2"))
        assert changed["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
        assert changed["metadata"]["uid"] == first["metadata"]["uid"]

    def test_applying_keeps_what_others_have_set(self, api: ApiServer, somebody: Somebody) -> None:
        api.apply(config_map(somebody.namespace, a="1"))
        somebody.write(config_map(somebody.namespace, labels={"theirs": "yes"}, b="2"))
        found = api.apply(config_map(somebody.namespace, a="3"))
        assert found["data"] == {"a": "3", "b": "2"}
        assert found["metadata"]["labels"] == {"theirs": "yes"}

    def test_what_is_not_applied_any_more_goes(self, api: ApiServer, somebody: Somebody) -> None:
        api.apply(config_map(somebody.namespace, a="1", b="2"))
        assert api.apply(config_map(somebody.namespace, b="2"))["data"] == {"b": "2"}

    def test_what_is_applied_wins_over_another_writer(self, api: ApiServer, somebody: Somebody) -> None:
        api.apply(config_map(somebody.namespace, a="1"))
        somebody.write(config_map(somebody.namespace, a="theirs"))
        assert api.apply(config_map(somebody.namespace, a="1"))["data"] == {"a": "1"}

    def test_containers_are_identified_by_name(self, api: ApiServer, somebody: Somebody) -> None:
        api.apply(deployment(somebody.namespace))
        theirs = deployment(somebody.namespace)
        theirs["spec"]["template"]["spec"]["containers"] = [{"name": "mesh", "image": "proxy:1"}]
        somebody.write(theirs)
        found = api.apply(deployment(somebody.namespace, image="engine:2"))
        containers = found["spec"]["template"]["spec"]["containers"]
        assert {one["name"]: one["image"] for one in containers} == {"vllm": "engine:2", "mesh": "proxy:1"}

    def test_replicas_of_the_creation_are_left_to_whoever_scales(self, api: ApiServer, somebody: Somebody) -> None:
        api.create(deployment(somebody.namespace, replicas=2))
        assert api.apply(deployment(somebody.namespace))["spec"]["replicas"] == 2
        somebody.write(deployment(somebody.namespace, replicas=5))
        assert api.apply(deployment(somebody.namespace))["spec"]["replicas"] == 5

    def test_what_another_manager_applies_stays_when_it_is_not_applied_any_more(
        self, api: ApiServer, somebody: Somebody
    ) -> None:
        api.apply(deployment(somebody.namespace, replicas=2))
        alone = deployment(somebody.namespace, replicas=2)
        alone["spec"] = {"replicas": 2}
        api.apply(alone, FIRST_WRITER)
        assert api.apply(deployment(somebody.namespace))["spec"]["replicas"] == 2

    def test_an_object_says_who_manages_its_fields(self, api: ApiServer, somebody: Somebody) -> None:
        def managers() -> set[str]:
            found = api.get(Kind("apps/v1", "Deployment"), "served", somebody.namespace)
            assert found is not None
            entries = found["metadata"]["managedFields"]
            applied = [one for one in entries if one["operation"] == "Apply"]
            return {one["manager"] for one in applied if "f:replicas" in one["fieldsV1"].get("f:spec", {})}

        api.apply(deployment(somebody.namespace, replicas=2))
        assert managers() == {FIELD_MANAGER}
        api.apply(deployment(somebody.namespace, replicas=2), FIRST_WRITER)
        api.apply(deployment(somebody.namespace))
        assert managers() == {FIRST_WRITER}

    def test_without_force_another_managers_field_is_not_changed(self, api: ApiServer, somebody: Somebody) -> None:
        assert api.apply(config_map(somebody.namespace, a="1"), force=False)["data"] == {"a": "1"}
        somebody.write(config_map(somebody.namespace, b="theirs"))
        with pytest.raises(ApiUnavailable):
            api.apply(config_map(somebody.namespace, a="1", b="ours"), force=False)
        found = api.get(CONFIG_MAP, "settings", somebody.namespace)
        assert found is not None
        assert found["data"] == {"a": "1", "b": "theirs"}

    def test_spec_and_status_are_written_apart(self, api: ApiServer, somebody: Somebody) -> None:
        made = api.create({**trial(somebody.namespace), "status": {"phase": "Succeeded"}})
        assert made is not None
        assert made.get("status", {}).get("phase") != "Succeeded"
        written = api.apply_status({**status_of(made, phase="Measuring"), "spec": {"number": 7}})
        assert written is not None
        assert written["status"]["phase"] == "Measuring"
        assert written["spec"]["number"] == 0

    def test_the_status_of_what_is_gone_is_none(self, api: ApiServer, somebody: Somebody) -> None:
        assert api.apply_status(status_of(trial(somebody.namespace), phase="Measuring")) is None

    def test_status_that_is_not_written_any_more_goes(self, api: ApiServer, somebody: Somebody) -> None:
        made = api.create(trial(somebody.namespace))
        assert made is not None
        api.apply_status(status_of(made, phase="Measuring", warnings=["slow"]))
        written = api.apply_status(status_of(made, phase="Measuring"))
        assert written is not None
        assert not written["status"].get("warnings")

    def test_the_generation_counts_changes_of_the_spec(self, api: ApiServer, somebody: Somebody) -> None:
        somebody.write(tuning(somebody.namespace))
        first = api.get(TUNING, "demo", somebody.namespace)
        assert first is not None
        api.apply_status(status_of(first, phase="Running"))
        somebody.write(tuning(somebody.namespace, suspend=True))
        second = api.get(TUNING, "demo", somebody.namespace)
        assert second is not None
        assert first["metadata"]["generation"] == 1
        assert second["metadata"]["generation"] == 2
        assert second["status"]["phase"] == "Running"

    def test_objects_are_found_by_their_labels(self, api: ApiServer, somebody: Somebody) -> None:
        for name, labels in {"a": {"t": "x", "n": "1"}, "b": {"t": "x", "n": "2"}, "c": {"t": "y"}}.items():
            api.apply(config_map(somebody.namespace, name, labels=labels))

        def found(selector: str) -> list[str]:
            return sorted(one["metadata"]["name"] for one in api.list(CONFIG_MAP, somebody.namespace, selector))

        assert found("t=x") == ["a", "b"]
        assert found("t=x,n=2") == ["b"]
        assert found("t=x,n in (1,2,3)") == ["a", "b"]
        assert found("t=y,n in (1)") == []
        assert {"a", "b", "c"} <= set(found(""))

    def test_what_is_listed_says_what_it_is(self, api: ApiServer, somebody: Somebody) -> None:
        api.apply(config_map(somebody.namespace, labels={"t": "x"}))
        (found,) = api.list(CONFIG_MAP, somebody.namespace, "t=x")
        assert Kind.of(found) == CONFIG_MAP
        everywhere = api.list(CONFIG_MAP, selector="t=x")
        assert somebody.namespace in [one["metadata"]["namespace"] for one in everywhere]

    def test_a_selector_that_is_none_is_refused(self, api: ApiServer, somebody: Somebody) -> None:
        with pytest.raises(ApiRefused) as refused:
            api.list(CONFIG_MAP, somebody.namespace, "pool=not a value")
        assert refused.value.status == 400

    def test_an_object_against_its_schema_is_refused_by_field(self, api: ApiServer, somebody: Somebody) -> None:
        wrong = trial(somebody.namespace)
        wrong["spec"]["number"] = -1
        with pytest.raises(ApiRefused, match=r"spec\.number") as refused:
            api.create(wrong)
        assert refused.value.status == 422
        assert api.get(TRIAL, "demo-full-000", somebody.namespace) is None

    def test_what_is_owned_goes_with_its_owner(self, api: ApiServer, somebody: Somebody) -> None:
        somebody.write(tuning(somebody.namespace))
        owner = api.get(TUNING, "demo", somebody.namespace)
        assert owner is not None
        api.create(trial(somebody.namespace, owner))
        api.create(trial(somebody.namespace, name="of-nobody"))
        api.delete(TUNING, "demo", somebody.namespace)
        assert eventually(lambda: api.get(TRIAL, "demo-full-000", somebody.namespace) is None)
        assert api.get(TRIAL, "of-nobody", somebody.namespace) is not None

    def test_a_record_that_was_applied_is_marked_and_never_changed(self, api: ApiServer, somebody: Somebody) -> None:
        data = {"b": 1.5, "a": {"z": "x < y", "c": 2}, "n": 1795981317.7970545}
        own = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1}
        metadata = {"name": "answer", "namespace": somebody.namespace}
        api.apply({**own, "metadata": metadata, "data": data}, FIRST_WRITER, force=False)
        marked = api.apply({**own, "metadata": {**metadata, "annotations": {"haqa.dev/phase": "Serving"}}})
        assert marked["data"] == data
        assert marked["metadata"]["annotations"]["haqa.dev/phase"] == "Serving"
        with pytest.raises(ApiRefused, match="immutable"):
            api.apply({**own, "metadata": metadata, "data": {**data, "b": 2}}, FIRST_WRITER)

    def test_a_record_that_was_created_cannot_be_marked(self, api: ApiServer, somebody: Somebody) -> None:
        own = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1}
        metadata = {"name": "created", "namespace": somebody.namespace}
        api.create({**own, "metadata": metadata, "data": {"b": 1, "a": "x < y"}})
        with pytest.raises(ApiRefused, match="immutable"):
            api.apply({**own, "metadata": {**metadata, "annotations": {"haqa.dev/phase": "Serving"}}})

    def test_deleting_what_is_gone_is_harmless(self, api: ApiServer, somebody: Somebody) -> None:
        api.delete(CONFIG_MAP, "settings", somebody.namespace)

    def test_the_log_of_a_pod_that_is_gone_is_empty(self, api: ApiServer, somebody: Somebody) -> None:
        assert api.log(somebody.namespace, "gone", "measure") == ""
        assert api.log(somebody.namespace, "gone", "measure", previous=True) == ""

    def test_the_last_warning_about_an_object_counts(self, api: ApiServer, somebody: Somebody) -> None:
        made = api.apply(config_map(somebody.namespace))
        uid = made["metadata"]["uid"]
        assert api.latest_warning(somebody.namespace, uid) is None
        for name, message, kind in (("a", "first", "Warning"), ("b", "second", "Warning"), ("c", "fine", "Normal")):
            api.create(event(made, name, message, kind))
        assert api.latest_warning(somebody.namespace, uid) == "Tested: second"
        assert api.latest_warning(somebody.namespace, "another") is None

    def test_a_patch_changes_what_it_names_and_nothing_else(self, api: ApiServer, somebody: Somebody) -> None:
        somebody.write(tuning(somebody.namespace))
        api.patch(named(tuning(somebody.namespace), spec={"suspend": True}), "person")
        found = api.patch(named(tuning(somebody.namespace), annotations={"theirs/a": "1"}), "person")
        assert found is not None
        assert found["spec"]["suspend"] is True
        assert found["spec"]["model"] == {"uri": "pvc://models/model"}
        assert found["metadata"]["annotations"]["theirs/a"] == "1"
        again = api.patch(named(tuning(somebody.namespace), annotations={"theirs/a": None}), "person")
        assert again is not None
        assert "theirs/a" not in again["metadata"].get("annotations", {})
        assert again["spec"]["suspend"] is True

    def test_a_patch_of_what_is_gone_makes_nothing(self, api: ApiServer, somebody: Somebody) -> None:
        assert api.patch(named(tuning(somebody.namespace), spec={"suspend": True}), "person") is None
        assert api.get(TUNING, "demo", somebody.namespace) is None

    def test_a_patch_of_what_was_written_since_is_not_carried_out(self, api: ApiServer, somebody: Somebody) -> None:
        first = api.apply(config_map(somebody.namespace, a="1"))
        somebody.write(config_map(somebody.namespace, a="theirs"))
        late = config_map(somebody.namespace, a="2")
        late["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
        with pytest.raises(ApiUnavailable):
            api.patch(late, "person")
        found = api.get(CONFIG_MAP, "settings", somebody.namespace)
        assert found is not None
        assert found["data"] == {"a": "theirs"}

    def test_a_patch_against_the_schema_is_refused(self, api: ApiServer, somebody: Somebody) -> None:
        somebody.write(tuning(somebody.namespace))
        with pytest.raises(ApiRefused, match=r"spec\.parallelTrials"):
            api.patch(named(tuning(somebody.namespace), spec={"parallelTrials": 0}), "person")

    def test_whoever_asks_is_told_who_they_are(self, api: ApiServer, somebody: Somebody) -> None:
        assert api.user()
