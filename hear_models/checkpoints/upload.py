"""Sends a checkpoint and its card to the Hub in one commit: look first, create last, compare afterwards.

`huggingface_hub` authenticates and transfers, by plain LFS (see `hub_guard`). What goes wrong on the way is one
sentence and a way out.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hear_models.checkpoints.hub import FILE
from hear_models.checkpoints.hub_errors import first_line, of_the_network
from hear_models.checkpoints.hub_guard import guarded
from hear_models.checkpoints.safetensors_file import KEY
from hear_models.errors import CheckpointError, HearModelsError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
HOW_TO_LOG_IN = (
    "Make a token that may write at https://huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN."
)


@dataclass(frozen=True)
class Remote:
    """A repository as it was before."""

    exists: bool
    head: str | None = None  # commit of the branch
    branch_exists: bool = False
    sha256: str | None = None  # of the file that is there, as the Hub announces it
    has_card: bool = False


@dataclass(frozen=True)
class Upload:
    """What became of it."""

    url: str
    commit: str
    created: bool  # the repository is new
    changed: bool  # False: the Hub had exactly this already
    replaced_sha256: str | None  # of the file that was there before, if it was another


def check_repository_name(repository: str) -> str:
    """`repository` if it is ORG/NAME as the Hub writes it; UsageError otherwise."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    name = repository.removeprefix("hf://")
    if name.count("/") != 1 or "@" in name:
        raise UsageError(
            f"{repository!r} is not of the form ORG/NAME. Write for instance my-lab/my-model; "
            "a branch goes into --branch."
        )
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{repository!r} cannot be a repository's name. {first_line(error)}") from error
    return name


def check_branch(branch: str | None) -> str | None:
    """The branch to commit to; None for main. UsageError for a commit, which cannot be written to, or an odd name."""
    if branch is None or branch == "main":
        return None
    if re.fullmatch("[0-9a-f]{40}", branch):
        raise UsageError(f"{branch} is a commit; nothing can be written into one. Name a branch.")
    if not re.fullmatch(r"[\w][\w./-]*", branch) or ".." in branch or branch.startswith("refs/"):
        raise UsageError(f"{branch!r} cannot be a branch's name. Use letters, digits, hyphens.")
    return branch


def upload(
    repository: str,
    data: bytes,
    card: str,
    *,
    message: str,
    branch: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> Upload:
    """Commit `data` as model.safetensors and `card` as README.md to ORG/NAME, which is made if it is not there.

    Nothing is created or changed until the repository was looked at: it must be ours to write, of the visibility asked
    for, and its model.safetensors, if it has one, must be of hear-models. Then one commit holds both files; the sha256
    that the Hub announces for that commit is compared with that of `data`.

    Raises:
        UsageError: no token, offline mode, the repository is of another kind.
        CheckpointError: the Hub refuses or cannot be reached, or announces another sha256 afterwards.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UsageError("HF_HUB_OFFLINE is set, so nothing can be published. Unset it, or look with --dry-run.")
    token = token or get_token()
    if not token:
        raise UsageError(f"there is no token for {constants.ENDPOINT}. {HOW_TO_LOG_IN}")
    api = HfApi(token=token, library_name="hear-models")
    sha256 = hashlib.sha256(data).hexdigest()
    with clear_errors(repository, api.endpoint, "Nothing was created."):
        remote = look(api, repository, branch, private)
    if not remote.exists:
        with clear_errors(repository, api.endpoint, "Nothing was created."):
            api.create_repo(repository, private=private, exist_ok=False)
    done = "Nothing was changed." if remote.exists else "The repository was made and is empty; publish again."
    with clear_errors(repository, api.endpoint, done), _quiet_unless_seen():
        if branch is not None and not remote.branch_exists:
            api.create_branch(repository, branch=branch, exist_ok=True)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(FILE, data), CommitOperationAdd(CARD, card.encode())],
            commit_message=message,
            revision=branch,
            parent_commit=remote.head,
        )
    with clear_errors(repository, api.endpoint, f"The commit {commit.oid} was made, but could not be looked at."):
        announced = _announced(api, repository, commit.oid)
    if announced not in (sha256, _git_sha1(data)):
        raise CheckpointError(
            f"the Hub announces {announced} for {FILE} in the commit {commit.oid} of {repository}, but {sha256} "
            "was sent. Publish again; until then nobody should load that commit."
        )
    return Upload(
        f"{api.endpoint}/{repository}" + (f"/tree/{branch}" if branch else ""),
        commit.oid,
        not remote.exists,
        commit.oid != remote.head,
        remote.sha256 if remote.sha256 not in (None, sha256, _git_sha1(data)) else None,
    )


def look(api: HfApi, repository: str, branch: str | None, private: bool) -> Remote:
    """What is at ORG/NAME now; UsageError if it must not be written to."""
    from huggingface_hub.utils import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = api.model_info(repository)
    except RepositoryNotFoundError as error:
        if type(error) is RepositoryNotFoundError:
            return Remote(False)
        raise  # gated
    if private and info.private is False:
        raise UsageError(
            f"{repository} exists and is public; --private only concerns a new repository. "
            "Leave --private out, or choose another name."
        )
    if info.library_name not in (None, "hear-models"):
        raise UsageError(
            f"{repository} exists and holds a model of the library {info.library_name}. Choose another name."
        )
    branch_exists = True
    try:
        info = api.model_info(repository, revision=branch)
    except RevisionNotFoundError:
        branch_exists = False  # it will begin where main is
    names = {file.rfilename for file in info.siblings or ()}
    announced = None
    if FILE in names:
        _check_ours(api, repository, info.sha)
        announced = _announced(api, repository, info.sha)
    return Remote(True, info.sha, branch_exists, announced, CARD in names)


def _check_ours(api: HfApi, repository: str, commit: str | None) -> None:
    """The file that would be replaced must have been written by hear-models."""
    from huggingface_hub.utils import SafetensorsParsingError

    try:
        ours = KEY in api.parse_safetensors_file_metadata(repository, FILE, revision=commit).metadata
    except SafetensorsParsingError:
        ours = False
    if not ours:
        raise UsageError(
            f"{repository} has a {FILE} that hear-models did not write; it would be replaced. Choose another name."
        )


def _announced(api: HfApi, repository: str, commit: str | None) -> str | None:
    """The sha256 (or, for a file outside of LFS, git's sha1) that the Hub gives for the file."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(repository, FILE, revision=commit, endpoint=api.endpoint)
    return api.get_hf_file_metadata(url=url).etag


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def _quiet_unless_seen() -> Iterator[None]:
    """Without a terminal no progress bar, and of the library's remarks the errors only (more by HF_HUB_VERBOSITY)."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or os.environ.get("HF_HUB_VERBOSITY"):
        yield
        return
    logger, bars = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # disable_progress_bars, if the environment asked for bars
            if bars:
                disable_progress_bars()
        yield
    finally:
        logger.setLevel(level)
        if bars:
            enable_progress_bars()


@contextlib.contextmanager
def clear_errors(repository: str, endpoint: str, state: str) -> Iterator[None]:
    """Whatever the library raises becomes one sentence, then `state` (what the Hub holds now), then what to do."""
    from huggingface_hub.utils import GatedRepoError, HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        with guarded():
            yield
    except OfflineModeIsEnabled as error:
        raise UsageError(f"HF_HUB_OFFLINE is set, so nothing can be published. {state} Unset it.") from error
    except LocalTokenNotFoundError as error:
        raise UsageError(f"there is no token for {endpoint}. {state} {HOW_TO_LOG_IN}") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated and this account has no access. {state} Ask its owner, or choose another name."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise CheckpointError(_http_sentence(repository, endpoint, status, error, state)) from error
    except HearModelsError:
        raise
    except Exception as error:  # the classes of the HTTP library depend on huggingface_hub's version
        if of_the_network(error):
            what = f"the Hub at {endpoint} could not be reached ({first_line(error)})"
            raise CheckpointError(f"{what}. {state} Check the network and HF_ENDPOINT, then publish again.") from error
        if isinstance(error, (OSError, RuntimeError, ValueError)):
            what = f"huggingface_hub gave up: {first_line(error)}"
            raise CheckpointError(f"{what}. {state} Publish again later.") from error
        raise


def _http_sentence(repository: str, endpoint: str, status: int | None, error: Any, state: str) -> str:
    if status == 401:
        return f"{endpoint} does not accept the token (401). {state} {HOW_TO_LOG_IN}"
    if status in (402, 403):
        return (
            f"this account may not write to {repository} ({status}). {state} "
            "Take a token that may write there, ask the organisation's owner, or choose another ORG/NAME."
        )
    if status == 409:
        return (
            f"the name {repository} is taken by something that this account cannot see, or is not a model (409). "
            f"{state} Choose another name."
        )
    if status == 412:
        return (
            f"somebody else committed to {repository} at the same time (412). {state} Look at it, then publish again."
        )
    return f"the Hub at {endpoint} answered with an error ({first_line(error)}). {state} Publish again later."
