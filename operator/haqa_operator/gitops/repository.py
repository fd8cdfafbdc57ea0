"""A remote repository: the tips of branches as they are now, and one commit more.

By dulwich, git in Python: the operator's image then needs neither git nor ssh, and nothing that a repository or a
tenant writes becomes an argument, a configuration or a hook of a program.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dulwich.client import HTTPProxyUnauthorized, HTTPUnauthorized
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository, SendPackError
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.pack import pack_objects_to_data
from dulwich.refs import Ref
from dulwich.repo import Repo

from haqa_operator.api.git_output import GitAuthor, GitOutput
from haqa_operator.gitops.forges.pull_requests import one_line
from haqa_operator.gitops.publications import GitCredentials, PublishError
from haqa_operator.gitops.targets import RepositoryAddress
from haqa_operator.gitops.transports import GitClient, client_for

_LARGEST_FILE: Final = 2**20
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_FILE_MODE: Final = stat.S_IFREG | 0o644
_FOLDER_MODE: Final = stat.S_IFDIR


class Moved(Exception):
    """The branch is not where it was seen any more; nothing was pushed."""


@dataclass(frozen=True)
class NewCommit:
    """Attributes:
    commit: Its id.
    objects: What it has that its parent has not.
    """

    commit: str
    objects: tuple[ShaFile, ...]


@dataclass(frozen=True)
class Snapshot:
    """A commit and its files."""

    _store: Any
    _commit: Commit

    @property
    def commit(self) -> str:
        return str(self._commit.id.decode())

    @property
    def message(self) -> str:
        return str(self._commit.message.decode(errors="replace"))

    def read(self, path: str) -> str | None:
        """A file's text; None where there is none.

        Raises:
            PublishError: there is something else, or it is no text of a reasonable size.
        """
        entry: tuple[int, ObjectID] | None = (_FOLDER_MODE, self._commit.tree)
        steps = path.split("/")
        for at, step in enumerate(steps):
            assert entry is not None
            entry = _entries(self._store[entry[1]]).get(step.encode())
            if entry is None:
                return None
            _expect(entry[0], "/".join(steps[: at + 1]), folder=at < len(steps) - 1)
        assert entry is not None
        try:
            content: bytes | None = self._store[entry[1]].as_raw_string()
        except KeyError:
            content = None
        if content is None or len(content) > _LARGEST_FILE:
            raise PublishError(
                f"spec.output.git.path: {path} is larger than {_LARGEST_FILE // 2**20} MiB; choose another"
            )
        if content.startswith(_LFS):
            raise PublishError(f"spec.output.git.path: {path} is kept by Git LFS; take it out of .gitattributes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise PublishError(f"spec.output.git.path: {path} is no text in UTF-8; choose another") from None

    def with_files(self, files: Mapping[str, str], *, message: str, author: GitAuthor, at: datetime) -> NewCommit:
        """The next commit, with these files written. The same arguments make the same commit.

        Raises:
            PublishError: something else than a folder or a file is in the way.
        """
        objects: list[ShaFile] = []
        texts = {tuple(path.split("/")): text.encode() for path, text in files.items()}
        made = Commit()
        made.tree = self._tree(self._commit.tree, texts, (), objects)
        made.parents = [self._commit.id]
        made.author = made.committer = f"{author.name} <{author.email}>".encode()
        made.author_time = made.commit_time = int(at.timestamp())
        made.author_timezone = made.commit_timezone = 0
        made.encoding = b"UTF-8"
        made.message = message.encode()
        return NewCommit(made.id.decode(), (*objects, made))

    def _tree(
        self,
        tree: ObjectID | None,
        texts: Mapping[tuple[str, ...], bytes],
        above: tuple[str, ...],
        objects: list[ShaFile],
    ) -> ObjectID:
        made = Tree()
        before = {} if tree is None else _entries(self._store[tree])
        for name, (mode, inside) in before.items():
            made.add(name, mode, inside)
        for step in dict.fromkeys(path[0] for path in texts):
            name, entry = step.encode(), before.get(step.encode())
            within = {path[1:]: text for path, text in texts.items() if path[0] == step}
            where = "/".join((*above, step))
            if (text := within.pop((), None)) is not None:
                if entry is not None:
                    _expect(entry[0], where, folder=False)
                blob = Blob.from_string(text)
                objects.append(blob)
                made.add(name, entry[0] if entry else _FILE_MODE, blob.id)
            if within:
                if entry is not None:
                    _expect(entry[0], where, folder=True)
                made.add(name, _FOLDER_MODE, self._tree(entry[1] if entry else None, within, (*above, step), objects))
        objects.append(made)
        return made.id


class Repository:
    def __init__(self, output: GitOutput, client: GitClient, path: str, store: Repo) -> None:
        self._output = output
        self._client = client
        self._path = path
        self._repo = store

    def fetch(self, *branches: str) -> dict[str, Snapshot]:
        """The tips of those of the branches that exist.

        Raises:
            PublishError: the repository cannot be read.
        """
        asked = [_ref(branch) for branch in branches]

        def wanted(refs: Mapping[Any, Any], depth: int | None = None) -> list[Any]:
            return [refs[ref] for ref in asked if ref in refs]

        with self._errors("read"):
            result = self._client.fetch(
                self._path,
                self._repo,
                wanted,
                depth=1,
                ref_prefix=asked,
                # What is that large is not read here.
                filter_spec=b"blob:limit=%d" % (_LARGEST_FILE + 1),
            )
        tips = {branch: result.refs.get(ref) for branch, ref in zip(branches, asked, strict=True)}
        return {branch: self._snapshot(tip) for branch, tip in tips.items() if tip is not None}

    def push(self, made: NewCommit, branch: str, expected: str | None) -> None:
        """Moves the branch to the commit, if it is where it was seen; None makes it.

        Raises:
            Moved: it is not.
            PublishError: the server refuses.
        """
        ref, said = _ref(branch), bytearray()

        def update(refs: Mapping[Any, Any]) -> dict[Any, Any]:
            if refs.get(ref) != (expected.encode() if expected else None):
                raise Moved
            return {ref: ObjectID(made.commit.encode())}

        def packed(have: Any, want: Any, *, ofs_delta: bool = False, progress: Any = None) -> tuple[int, Iterator[Any]]:
            return pack_objects_to_data(list(made.objects))

        with self._errors("write to"):
            result = self._client.send_pack(self._path.encode(), update, packed, progress=said.extend)
        refused = (result.ref_status or {}).get(ref)
        if refused is None:
            return
        # The server compares too: whoever came in between has moved it.
        if self._tip(ref) != (expected.encode() if expected else None):
            raise Moved
        words = one_line(f"{refused}; {_remote_lines(said.decode(errors='replace'))}")
        raise PublishError(
            f"spec.output.git.branch: {self._where} does not take a push to {branch}: {words}; let the user of "
            f"secretRef push there{'' if self._output.pull_request else ', or set pullRequest'}"
        )

    def _tip(self, ref: Ref) -> ObjectID | None:
        with self._errors("read"):
            return self._client.get_refs(self._path.encode(), ref_prefix=[ref]).refs.get(ref)

    def _snapshot(self, tip: ObjectID) -> Snapshot:
        commit = self._repo.object_store[tip]
        assert isinstance(commit, Commit)
        return Snapshot(self._repo.object_store, commit)

    @property
    def _where(self) -> str:
        return RepositoryAddress.parse(self._output.url).origin

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        address = self._output.url
        try:
            yield
        except NotGitRepository:
            raise PublishError(
                f"spec.output.git.url: there is no repository {address}, or the credentials may not see it; correct "
                "it, or give the user of secretRef the right to it"
            ) from None
        except HTTPUnauthorized:
            raise PublishError(
                f"spec.output.git.secretRef: {self._where} does not accept the credentials, or not to {doing} "
                f"{address}; renew them, or give them that right"
            ) from None
        except HTTPProxyUnauthorized:
            raise PublishError(
                f"spec.output.git.url: the proxy in front of {self._where} wants credentials; put them into the "
                "operator's https_proxy"
            ) from None
        except (GitProtocolError, HangupException, SendPackError) as error:
            raise self._refused(doing, error) from None
        except TimeoutError:
            raise PublishError(
                f"spec.output.git.url: {self._where} did not answer in time; it is tried again", transient=True
            ) from None
        except (OSError, EOFError) as error:
            if type(error) in (OSError, PermissionError, FileNotFoundError):
                raise
            raise self._refused(doing, error) from None

    def _refused(self, doing: str, error: Exception) -> PublishError:
        words = one_line(str(error) or type(error).__name__)
        if "http resp 403" in words:
            return PublishError(
                f"spec.output.git.secretRef: {self._where} refuses to let the user {doing} {self._output.url}; give "
                "them that right"
            )
        if "http resp 3" in words:
            return PublishError(
                f"spec.output.git.url: {self._where} answers {self._output.url} with a redirect, and none is followed; "
                "give the final address, which often ends in .git"
            )
        if "CERTIFICATE_VERIFY_FAILED" in words:
            return PublishError(
                f"spec.output.git.url: the certificate of {self._where} is not trusted; store that of its authority as "
                "ca.crt in the Secret of secretRef"
            )
        return PublishError(
            f"spec.output.git.url: {self._where} cannot be asked to {doing} {self._output.url}: {words}; check the "
            "address, and whether the operator may reach it",
            transient=True,
        )


@contextmanager
def opened(output: GitOutput, credentials: GitCredentials, bundle: str) -> Iterator[Repository]:
    """The repository, with a folder for what is fetched of it.

    Args:
        bundle: File with the certificates that are trusted.

    Raises:
        PublishError: the Secret lacks what the address needs.
    """
    client, path = client_for(output, credentials, bundle)
    with tempfile.TemporaryDirectory(prefix="haqa-git-") as folder:
        store = Repo.init_bare(str(Path(folder, "repository.git")), mkdir=True)
        try:
            yield Repository(output, client, path, store)
        finally:
            store.close()
            client.close()


def _ref(branch: str) -> Ref:
    return Ref(f"refs/heads/{branch}".encode())


def _entries(tree: ShaFile) -> dict[bytes, tuple[int, ObjectID]]:
    assert isinstance(tree, Tree)
    return {entry.path: (entry.mode, entry.sha) for entry in tree.iteritems()}


def _expect(mode: int, path: str, *, folder: bool) -> None:
    kind = stat.S_IFMT(mode)
    if kind == (stat.S_IFDIR if folder else stat.S_IFREG):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFLNK: "a symbolic link"}
    wanted = "a folder" if folder else "a file"
    raise PublishError(
        f"spec.output.git.path: {path} is {kinds.get(kind, 'a submodule')} in the repository, and {wanted} is needed; "
        "choose another path"
    )


def _remote_lines(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return " ".join(line for line in lines if line)
