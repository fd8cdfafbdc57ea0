"""Publications in repositories of real git, with and without pull requests, and what goes wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.background_server import SelfSigned
from tests.fakes.forges import TOKEN, FakeForge, FakeGitea, FakeGitHub, FakeGitLab
from tests.fakes.git_server import BareRepository, GitServer, GitSshServer
from tests.publications import CREDENTIALS, deployment, output, publication

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops import GitCredentials, Publication, Published, PublishError, PublishState
from haqa_operator.gitops.publishing import branch_of, publish
from haqa_operator.gitops.repository import Repository, opened

README = {"README.md": "ours\n", "apps/other/kustomization.yaml": "resources: []\n"}
FORGES = (FakeGitHub, FakeGitLab, FakeGitea)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "git") as running:
        yield running


@pytest.fixture
def repository(server: GitServer) -> BareRepository:
    return server.repository(README)


@pytest.fixture(params=FORGES, ids=[forge.provider.value for forge in FORGES])
def forge(request: pytest.FixtureRequest, repository: BareRepository) -> Iterator[FakeForge]:
    with request.param(repository) as running:
        yield running


def to(server: GitServer, **changes: Any) -> GitOutput:
    return output(f"{server.url}/team/clusters.git", **changes)


def by(server: GitServer, forge: FakeForge, **changes: Any) -> GitOutput:
    pull_request = {"provider": forge.provider, "apiBase": forge.api_base} | changes.pop("pullRequest", {})
    return to(server, pullRequest=pull_request, **changes)


class TestPushing:
    def test_a_commit_holds_the_manifests_and_the_evidence(self, server: GitServer, repository: BareRepository) -> None:
        done = publish(publication(attachments={"report.html": "<p>"}), to(server), CREDENTIALS)
        assert done == Published(state=PublishState.PUSHED, commit=repository.tip())
        assert repository.files() == sorted(
            [*README, *(f"apps/chat/chat-l40s.{end}" for end in ("haqa.md", "haqa.report.html", "yaml"))]
        )
        assert next(yaml.safe_load_all(repository.file("apps/chat/chat-l40s.yaml"))) == deployment()
        assert "| FP8-DYNAMIC | 1620 |" in repository.file("apps/chat/chat-l40s.haqa.md")
        assert repository.message().splitlines() == [
            "HAQA <haqa@localhost>",
            "chat on l40s: FP8-DYNAMIC, 1.62 times as fast",
            "",
            "FP8-DYNAMIC serves 1.62 times the baseline (1.55 to 1.70).",
            "",
            "HAQA-Publication: chat-l40s-1",
            "",
        ]

    def test_the_same_publication_changes_nothing(self, server: GitServer, repository: BareRepository) -> None:
        first = publish(publication(), to(server), CREDENTIALS)
        repository.commit({"README.md": "edited\n", "apps/chat/chat-l40s.yaml": "edited: true\n"})
        tip = repository.tip()
        assert publish(publication(), to(server), CREDENTIALS, first) == first
        assert publish(publication(), to(server), CREDENTIALS).state is PublishState.PUSHED
        assert repository.tip() == tip, "what a person did to it afterwards is theirs"

    def test_the_next_answer_and_going_back_are_commits_more(
        self, server: GitServer, repository: BareRepository
    ) -> None:
        for key, image in (("1", "v1"), ("2", "v2"), ("3", "v1")):
            publish(publication(key, manifests=(deployment(image=f"vllm:{image}"),)), to(server), CREDENTIALS)
            assert f"image: vllm:{image}" in repository.file("apps/chat/chat-l40s.yaml")
        assert repository.message().endswith("HAQA-Publication: 3\n\n")

    @pytest.mark.parametrize("before", ["by hand", "changed"])
    def test_a_file_of_somebody_else_is_left_alone(
        self, server: GitServer, repository: BareRepository, before: str
    ) -> None:
        if before == "changed":
            publish(publication("0"), to(server), CREDENTIALS)
        tip = repository.commit({"apps/chat/chat-l40s.yaml": "mine: true\n"})
        done = publish(publication(), to(server), CREDENTIALS)
        assert (done.state, repository.tip()) == (PublishState.CONFLICT, tip)
        assert re.match(r"apps/chat/chat-l40s\.yaml was (not written by HAQA|changed by somebody else)", done.note)

    def test_a_branch_that_others_move_meanwhile_is_caught_up_with(
        self, server: GitServer, repository: BareRepository
    ) -> None:
        def meanwhile() -> None:
            repository.commit({"README.md": "meanwhile\n"})

        done = publish(publication(), to(server), CREDENTIALS, open_repository=disturbed(meanwhile, times=2))
        assert (done.state, done.commit) == (PublishState.PUSHED, repository.tip())
        assert repository.file("README.md") == "meanwhile\n"

    def test_a_branch_that_never_rests_is_tried_again_later(
        self, server: GitServer, repository: BareRepository
    ) -> None:
        texts = iter(range(100))

        def meanwhile() -> None:
            repository.commit({"README.md": f"{next(texts)}\n"})

        with pytest.raises(PublishError, match=r"branch: main moved 4 times") as raised:
            publish(publication(), to(server), CREDENTIALS, open_repository=disturbed(meanwhile, times=99))
        assert raised.value.transient
        assert "apps/chat/chat-l40s.yaml" not in repository.files()

    def test_a_push_whose_answer_is_lost_is_not_made_twice(self, server: GitServer, repository: BareRepository) -> None:
        with pytest.raises(ConnectionError):
            publish(publication(), to(server), CREDENTIALS, open_repository=lost_after_push())
        tip = repository.tip()
        assert publish(publication(), to(server), CREDENTIALS).commit == tip == repository.tip()

    def test_what_a_hook_says_is_passed_on(self, server: GitServer, repository: BareRepository) -> None:
        repository.hook("pre-receive", f"echo 'GH006: Protected branch, says {TOKEN}' >&2; exit 1")
        with pytest.raises(PublishError, match=r"git\.branch: .* does not take a push to main: .*GH006") as raised:
            publish(publication(), to(server), CREDENTIALS)
        assert "or set pullRequest" in str(raised.value)
        assert TOKEN not in str(raised.value)

    def test_a_kustomization_keeps_its_comments(self, server: GitServer, repository: BareRepository) -> None:
        repository.commit({"apps/chat/kustomization.yaml": "# ours\nresources:\n- a.yaml  # a\n"})
        publish(publication(), to(server, format="Kustomize"), CREDENTIALS)
        expected = "# ours\nresources:\n- a.yaml  # a\n- chat-l40s.yaml\n"
        assert repository.file("apps/chat/kustomization.yaml") == expected

    def test_a_values_file_for_each_pool(self, server: GitServer, repository: BareRepository) -> None:
        repository.commit({"charts/values-l40s.yaml": "args: []  # ours\n"})
        chart = {"format": "HelmValues", "path": "charts/values-{pool}.yaml", "values": {"args": "args"}}
        publish(publication(), to(server, **chart), CREDENTIALS)
        assert repository.file("charts/values-l40s.yaml") == "args: # ours\n  - /models/chat\n  - --max-num-seqs=64\n"
        assert "charts/chat-l40s.haqa.md" in repository.files()

    def test_the_root_of_the_repository(self, server: GitServer, repository: BareRepository) -> None:
        publish(publication(), to(server, path="."), CREDENTIALS)
        assert "chat-l40s.yaml" in repository.files()


class TestProposing:
    def test_a_branch_and_a_pull_request(self, server: GitServer, repository: BareRepository, forge: FakeForge) -> None:
        spec = by(server, forge, pullRequest={"labels": ["models"], "titlePrefix": "chore: "})
        main = repository.tip()
        done = publish(publication(), spec, CREDENTIALS)
        (pull,) = forge.pulls
        assert (pull.head, pull.base) == (branch_of(publication(), spec), "main")
        assert (pull.title, pull.labels) == ("chore: chat on l40s: FP8-DYNAMIC, 1.62 times as fast", ["models"])
        assert "`apps/chat/chat-l40s.haqa.md`" in pull.body
        assert (done.state, done.commit) == (PublishState.OPEN, repository.tip(pull.head))
        assert done.url is not None
        assert repository.tip() == main
        assert repository.message(pull.head).splitlines()[1].startswith("chore: chat on l40s")

    def test_the_same_publication_changes_nothing(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        spec = by(server, forge)
        first = publish(publication(), spec, CREDENTIALS)
        before, asked = repository.refs(), len(server.requests)
        assert publish(publication(), spec, CREDENTIALS, first) == first
        assert len(server.requests) == asked, "an unchanged branch is not fetched"
        assert publish(publication(), spec, CREDENTIALS) == first
        assert (len(forge.pulls), repository.refs()) == (1, before)

    @pytest.mark.parametrize("squash", [False, True])
    def test_a_merge_is_noticed_and_nothing_is_done_any_more(
        self, server: GitServer, repository: BareRepository, forge: FakeForge, squash: bool
    ) -> None:
        spec = by(server, forge)
        first = publish(publication(), spec, CREDENTIALS)
        commit = forge.merge(1, squash=squash)
        repository.delete(branch_of(publication(), spec))
        done = publish(publication(), spec, CREDENTIALS, first)
        assert (done.state, done.commit, done.url) == (PublishState.MERGED, commit, first.url)
        assert repository.branches() == []

    def test_the_next_answer_closes_what_is_still_asked_for(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        spec = by(server, forge)
        for key in ("1", "2"):
            publish(publication(key), spec, CREDENTIALS)
        forge.merge(2)
        publish(publication("3"), spec, CREDENTIALS)
        retiring = publication("3").model_copy(update={"retires": ("1", "2", "never-published")})
        for _ in range(2):
            assert publish(retiring, spec, CREDENTIALS).state is PublishState.CLOSED
            assert [one.state for one in forge.pulls] == ["closed", "merged", "open"]
        assert branch_of(publication("1"), spec) in repository.branches(), "what was asked for can be read"

    def test_what_was_declined_is_not_asked_for_again_and_the_next_answer_is(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        spec = by(server, forge)
        publish(publication(), spec, CREDENTIALS)
        forge.close(1)
        repository.delete(branch_of(publication(), spec))
        assert publish(publication(), spec, CREDENTIALS).state is PublishState.CLOSED
        assert repository.branches() == []
        assert publish(publication("2"), spec, CREDENTIALS).state is PublishState.OPEN
        assert len(forge.pulls) == 2

    def test_a_branch_that_somebody_else_has_changed_is_left_alone(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        spec = by(server, forge)
        first = publish(publication(), spec, CREDENTIALS)
        branch = branch_of(publication(), spec)
        tip = repository.commit({"apps/chat/chat-l40s.yaml": "better: true\n"}, branch)
        done = publish(publication(), spec, CREDENTIALS, first)
        assert (done.state, done.commit, repository.tip(branch)) == (PublishState.OPEN, tip, tip)
        assert "somebody else has changed branch" in done.note
        assert publish(publication(), spec, CREDENTIALS, done) == done
        forge.merge(1)
        assert publish(publication(), spec, CREDENTIALS, done).state is PublishState.MERGED

    def test_a_branch_of_that_name_that_is_not_ours_is_a_conflict(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        spec = by(server, forge)
        tip = forge.commit({"a": "1"}, branch_of(publication(), spec))
        done = publish(publication(), spec, CREDENTIALS)
        assert (done.state, done.commit, forge.pulls) == (PublishState.CONFLICT, tip, [])

    def test_what_the_base_has_already_is_not_proposed(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        publish(publication(), to(server), CREDENTIALS)
        done = publish(publication(), by(server, forge), CREDENTIALS)
        assert (done.state, done.commit, forge.pulls) == (PublishState.MERGED, repository.tip(), [])

    def test_crashes_between_the_steps_end_in_the_same_place(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        spec = by(server, forge, pullRequest={"labels": ["models"]})
        with pytest.raises(ConnectionError):
            publish(publication(), spec, CREDENTIALS, open_repository=lost_after_push())
        assert forge.pulls == []
        forge.lose = 1
        for _ in range(3):
            try:
                done = publish(publication(), spec, CREDENTIALS)
            except PublishError as error:
                assert error.transient  # noqa: PT017
        assert (done.state, len(forge.pulls), len(repository.branches())) == (PublishState.OPEN, 1, 1)
        assert forge.pulls[0].labels == ["models"]

    def test_a_forge_that_repeats_the_token_is_not_repeated(
        self, server: GitServer, repository: BareRepository, forge: FakeForge
    ) -> None:
        forge.fail = [500]
        with pytest.raises(PublishError) as raised:
            publish(publication(), by(server, forge), CREDENTIALS)
        assert TOKEN not in str(raised.value)


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "says"),
        [
            (301, r"git\.url: .* with a redirect, and none is followed"),
            (403, r"git\.secretRef: .* refuses to let the user read"),
            (404, r"git\.url: there is no repository"),
            (500, r"git\.url: .* cannot be asked to read"),
        ],
    )
    def test_what_a_server_answers_becomes_a_sentence(
        self, server: GitServer, repository: BareRepository, status: int, says: str
    ) -> None:
        server.status = status
        with pytest.raises(PublishError, match=says):
            publish(publication(), to(server), CREDENTIALS)
        assert len(server.requests) == 1

    def test_credentials_that_are_wrong(self, server: GitServer, repository: BareRepository) -> None:
        wrong = GitCredentials(secret="git", username="someone", password="wr0ng")
        with pytest.raises(PublishError, match=r"secretRef: .* does not accept the credentials") as raised:
            publish(publication(), to(server), wrong)
        assert "wr0ng" not in str(raised.value)

    def test_credentials_that_are_missing(self, server: GitServer) -> None:
        with pytest.raises(PublishError, match=r"secretRef: Secret git has neither the key token nor username"):
            publish(publication(), to(server), GitCredentials(secret="git"))
        with pytest.raises(PublishError, match=r"has no key token, which pull requests on GitLab need"):
            publish(publication(), to(server, pullRequest={"provider": "GitLab"}), GitCredentials(secret="git"))

    def test_a_branch_that_is_missing(self, server: GitServer) -> None:
        server.repository()
        with pytest.raises(PublishError, match=r"git\.branch: .* has no branch main; correct it, or create"):
            publish(publication(), to(server), CREDENTIALS)

    @pytest.mark.parametrize("path", ["README.md", "README.md/x"])
    def test_a_path_through_a_file(self, server: GitServer, repository: BareRepository, path: str) -> None:
        with pytest.raises(PublishError, match=r"git\.path: README\.md is a file in the repository, and a folder"):
            publish(publication(), to(server, path=path), CREDENTIALS)

    def test_a_values_file_that_is_too_large(self, server: GitServer, repository: BareRepository) -> None:
        repository.commit({"values.yaml": f"# {'x' * 2**21}\n"})
        chart = {"format": "HelmValues", "path": "values.yaml", "values": {"args": "args"}}
        with pytest.raises(PublishError, match=r"git\.path: values\.yaml is larger than 1 MiB"):
            publish(publication(), to(server, **chart), CREDENTIALS)

    def test_nobody_at_the_address(self) -> None:
        with pytest.raises(PublishError, match=r"git\.url: http://127\.0\.0\.1:1 cannot be asked to read") as raised:
            publish(publication(), output("http://127.0.0.1:1/team/clusters"), CREDENTIALS)
        assert raised.value.transient

    def test_credentials_are_in_no_text_of_themselves(self) -> None:
        secret = GitCredentials(
            secret="git", username="u1", password="p1", token="t1", ssh_private_key="k1", passphrase="x1"
        )
        assert not re.search("u1|p1|t1|k1|x1", repr(secret) + str(secret))


class TestCertificates:
    def test_a_certificate_of_ones_own_is_trusted_where_the_secret_names_it(self, tmp_path: Path) -> None:
        (folder := tmp_path / "tls").mkdir()
        signed = SelfSigned.make(folder)
        with GitServer(tmp_path / "git", signed=signed) as server:
            repository = server.repository(README)
            with pytest.raises(PublishError, match=r"is not trusted; store that of its authority as ca\.crt"):
                publish(publication(), to(server), CREDENTIALS)
            with FakeGitea(repository, signed) as forge:
                trusting = CREDENTIALS.model_copy(update={"ca": signed.certificate.read_text()})
                assert publish(publication(), by(server, forge), trusting).state is PublishState.OPEN

    def test_what_is_no_certificate_is_said(self, server: GitServer) -> None:
        with pytest.raises(PublishError, match=r"ca\.crt holds no certificate"):
            publish(publication(), to(server), CREDENTIALS.model_copy(update={"ca": "x\n"}))


class TestSsh:
    @pytest.fixture
    def ssh(self, tmp_path: Path) -> Iterator[GitSshServer]:
        with GitSshServer(tmp_path / "git") as running:
            yield running

    @pytest.fixture
    def repository(self, tmp_path: Path) -> BareRepository:
        return BareRepository.make(tmp_path / "git/team/clusters.git", README)

    @staticmethod
    def spec(ssh: GitSshServer) -> GitOutput:
        return output(f"ssh://git@127.0.0.1:{ssh.port}/team/clusters.git")

    @staticmethod
    def keys(ssh: GitSshServer, **changes: str) -> GitCredentials:
        data = {"ssh-privatekey": ssh.private_key(), "known_hosts": ssh.known_hosts} | changes
        return GitCredentials.of_secret("git", data)

    @pytest.mark.parametrize("passphrase", [None, "opens it"])
    def test_keys_open_the_door(self, ssh: GitSshServer, repository: BareRepository, passphrase: str | None) -> None:
        more = {"ssh-privatekey": ssh.private_key(passphrase), "passphrase": passphrase} if passphrase else {}
        keys = self.keys(ssh, **more)
        done = publish(publication(), self.spec(ssh), keys)
        assert (done.state, done.commit) == (PublishState.PUSHED, repository.tip())
        assert publish(publication(), self.spec(ssh), keys).commit == repository.tip()

    def test_a_host_that_is_not_known_or_another_is_refused(
        self, ssh: GitSshServer, repository: BareRepository, tmp_path: Path
    ) -> None:
        other = ssh.known_hosts.replace(ssh.host_key.get_base64(), ssh.user_key.get_base64())
        with pytest.raises(PublishError, match=r"key known_hosts: .* has another host key"):
            publish(publication(), self.spec(ssh), self.keys(ssh, known_hosts=other))
        elsewhere = ssh.known_hosts.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(PublishError, match=r"key known_hosts: .* is not in it"):
            publish(publication(), self.spec(ssh), self.keys(ssh, known_hosts=elsewhere))

    def test_keys_that_do_not_open(self, ssh: GitSshServer, repository: BareRepository) -> None:
        with GitSshServer(Path("/nowhere")) as stranger:
            keys = self.keys(ssh, **{"ssh-privatekey": stranger.private_key()})
        with pytest.raises(PublishError, match=r"key ssh-privatekey: .* does not accept it for git"):
            publish(publication(), self.spec(ssh), keys)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"ssh-privatekey": "x"}, "key ssh-privatekey: no Ed25519, ECDSA or RSA key"),
            ({"ssh-privatekey": ""}, "has no key ssh-privatekey"),
            ({"known_hosts": ""}, "has no key known_hosts"),
            ({"known_hosts": "x"}, "key known_hosts: no host key in it"),
        ],
    )
    def test_secrets_that_are_no_keys(self, ssh: GitSshServer, changes: dict[str, str], says: str) -> None:
        with pytest.raises(PublishError, match=says):
            publish(publication(), self.spec(ssh), self.keys(ssh, **changes))

    def test_a_repository_that_is_not_there(self, ssh: GitSshServer) -> None:
        with pytest.raises(PublishError, match=r"git\.url: .*127\.0\.0\.1"):
            publish(publication(), self.spec(ssh), self.keys(ssh))


@dataclass
class _Disturbed:
    """A repository in which something happens right before or after each push."""

    repository: Repository
    before: Callable[[], None]
    after: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.repository, name)

    def push(self, *arguments: Any) -> None:
        self.before()
        self.repository.push(*arguments)
        self.after()


def disturbed(before: Callable[[], None], times: int) -> Any:
    left = [times]

    def act() -> None:
        if left[0]:
            left[0] -= 1
            before()

    return _opened(act, lambda: None)


def lost_after_push() -> Any:
    def lose() -> None:
        raise ConnectionError("lost")

    return _opened(lambda: None, lose)


def _opened(before: Callable[[], None], after: Callable[[], None]) -> Any:
    @contextmanager
    def open_repository(spec: GitOutput, credentials: GitCredentials, bundle: str) -> Iterator[Any]:
        with opened(spec, credentials, bundle) as repository:
            yield _Disturbed(repository, before, after)

    return open_repository


def test_two_answers_have_two_branches() -> None:
    spec = output(pullRequest={"provider": "GitHub"})
    assert branch_of(publication("1"), spec) != branch_of(publication("2"), spec)
    made: Publication = publication("1")
    assert branch_of(made, spec).startswith("haqa/chat-l40s-")
