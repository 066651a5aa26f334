"""What can go wrong between us and the Hub, each in a sentence on what is wrong and one on what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hear_models.errors import CheckpointError

if TYPE_CHECKING:
    from hear_models.checkpoints.hub import Address

OTHER_WAYS = (
    "Or give the path of a .safetensors file: one that you have, or that `hear-models convert` makes of an official "
    "checkpoint"
)


@contextlib.contextmanager
def clear_errors(address: Address, file: str | None, name: str) -> Iterator[None]:
    """Whatever the library raises becomes a CheckpointError: a sentence on what is wrong, one on what to do."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # its own classes, those of its HTTP library, OSError of the cache
        raise CheckpointError(sentences(address, file, name, error)) from error


def sentences(address: Address, file: str | None, name: str, error: Exception) -> str:
    """What is wrong, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/{address.repository}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    cause: BaseException = error
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        cause = error.__cause__
    if isinstance(cause, OfflineModeIsEnabled) or (isinstance(cause, LocalEntryNotFoundError) and _is_offline()):
        return (
            f"{address} would have to be downloaded to {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids it. "
            f"Unset HF_HUB_OFFLINE, or point HF_HUB_CACHE or HF_HOME to a cache that holds it. {OTHER_WAYS}."
        )
    if isinstance(cause, GatedRepoError):
        return (
            f"{address} is gated, its authors grant access on request, and {_token()}. "
            f"Ask for access at {page}, then {log_in}. {OTHER_WAYS}."
        )
    if isinstance(cause, RepositoryNotFoundError):
        return (
            f"there is no model {address.repository} at {constants.ENDPOINT}, or it is private and {_token()}. "
            f"Check the name; if it is private, {log_in}. {OTHER_WAYS}."
        )
    if isinstance(cause, RevisionNotFoundError):
        return (
            f"{address.repository} has no branch, tag or commit {address.revision!r}. "
            f"The revisions are listed at {page}/commits/main; without @REVISION the newest is taken."
        )
    if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
        return f"{address} holds no file {file}. What it holds is listed at {page}/tree/main. {OTHER_WAYS}."
    if isinstance(cause, HFValidationError):
        return (
            f"{address} is no address on the Hub: {first_line(cause)}. Write hf://ORGANISATION/REPOSITORY[@REVISION]."
        )
    status = status_of(cause)
    if status is not None and status < 500:
        hint = "Try again later" if status == 429 else "Check HF_TOKEN, or the token that `hf auth login` stored"
        return f"the Hub at {constants.ENDPOINT} refused {address} ({first_line(cause)}). {hint}. {OTHER_WAYS}."
    if status is not None or of_the_network(cause) or "Consistency check failed" in str(cause):
        return (
            f"{address} could not be downloaded from {constants.ENDPOINT} ({first_line(cause)}). "
            f"Try `hear-models download {name}` again when there is a connection; HF_ENDPOINT names another Hub, "
            "HF_HOME or HF_HUB_CACHE another cache (with HF_HUB_OFFLINE=1, what is in it is used without asking). "
            f"{OTHER_WAYS}."
        )
    if isinstance(cause, OSError) and cause.strerror:
        where = f" {cause.filename}" if cause.filename else ""
        return (
            f"{address} cannot be stored in the cache {constants.HF_HUB_CACHE}:{where} {cause.strerror}. "
            "Make room or set HF_HOME or HF_HUB_CACHE to a folder that you may write to."
        )
    return f"{address} could not be fetched: {type(cause).__name__}: {first_line(cause)}. {OTHER_WAYS}."


def _token() -> str:
    from huggingface_hub import get_token

    return "the token in use was not enough" if get_token() else "no token was sent"


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def status_of(error: BaseException | None) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def no_answer(error: BaseException) -> bool:
    """No connection, or a Hub that is down; not: offline by choice, or an answer that says no."""
    from huggingface_hub.utils import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    status = status_of(error)
    return status >= 500 if status is not None else of_the_network(error)


def of_the_network(error: BaseException) -> bool:
    """An error of the HTTP library, which is requests, httpx or httpx2 by the version of huggingface_hub."""
    modules = {cls.__module__.split(".")[0] for cls in type(error).__mro__}
    return bool(modules & {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "ssl"}) or isinstance(
        error, (ConnectionError, TimeoutError)
    )
