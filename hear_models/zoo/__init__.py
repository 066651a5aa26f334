"""Names → manifests → models. Importing this does not import torch; `load_model` does."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from hear_models.errors import UsageError
from hear_models.pipeline import hub_methods
from hear_models.zoo.registry import ModelEntry, find_entry, list_models

if TYPE_CHECKING:
    from hear_models.pipeline.model import HearModel
    from hear_models.zoo.publish import Publication

__all__ = ["ModelEntry", "find_entry", "from_pretrained", "list_models", "load_model", "push_to_hub"]


def load_model(name_or_path: str | os.PathLike[str] = "", *, family: str | None = None, **options: Any) -> HearModel:
    """A model in eval mode, on the CPU, in float32, its weights verified by their sha256 or digest.

    Args:
        name_or_path: "" for the default (of `family`, else `mwmae-nano`), a name of `list_models()`, a
            `.safetensors` file written by `hear-models convert` or by our pretraining, or `hf://org/repo[@revision]`
            (branch, tag or commit) on the Hugging Face Hub, downloaded when it is not in the cache.
        family: the family that the model must belong to, for instance "mwmae"; None: any.
        options: compile=True for torch.compile at the first call (docs/speed.md says where it pays);
            timestamps="centres" (true centres in ms, inside the clip) or "official" (every step, the original's
            times); dtype="float32", "bfloat16" or, on a GPU, "float16"; device, for instance "cuda"; decoder=True to
            load the decoder too (for pretraining); and the options of the family's `Model`.

    Returns:
        The model; `model.checkpoint` says where its weights come from and whether they are trained. A name without
        weights gives a random network (always the same one) and a UserWarning, once. No global random state is touched.

    Raises:
        UsageError: unknown name, wrong family, unknown option or value.
        CheckpointError: the file is damaged, of an official format, does not fit its configuration, or cannot be
            fetched.
    """
    from hear_models.zoo.load import load

    return load(name_or_path, family, options)


def from_pretrained(name: str, *, revision: str | None = None, family: str | None = None, **options: Any) -> HearModel:
    """`load_model` as the Hub's users write it: "ORG/NAME" is a repository on the Hub.

    Args:
        name: "ORG/NAME" or "hf://ORG/NAME[@REVISION]"; or whatever else `load_model` takes.
        revision: branch, tag or commit of the repository; None: main.
        family: the family that the model must belong to; `mwmae.Model.from_pretrained` gives its own.
        options: as for `load_model`.

    Raises:
        UsageError: also if a revision is given twice, or for something that is not on the Hub.
        CheckpointError: as `load_model`.
    """
    repository = name.removeprefix("hf://") if isinstance(name, str) else ""
    on_hub = bool(re.fullmatch(r"[\w.-]+/[\w.-]+(@.+)?", repository)) and (
        name.startswith("hf://") or not (os.path.exists(name) or name.endswith(".safetensors"))
    )
    if revision is not None and (not on_hub or "@" in repository):
        what = "has a revision already" if on_hub else "is no repository on the Hub, so it has no revisions"
        raise UsageError(f"{name!r} {what}. Leave revision={revision!r} out.")
    if on_hub:
        name = f"hf://{repository}" + (f"@{revision}" if revision else "")
    return load_model(name, family=family, **options)


def push_to_hub(
    model: HearModel | str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    branch: str | None = None,
    licence: str | None = None,
    permission: str | None = None,
    training: str | None = None,
    message: str | None = None,
    allow_untrained: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> Publication:
    """Publish a checkpoint with a generated card on the Hugging Face Hub; `hear-models publish` in Python.

    What is sent is exactly the verified file, with the parts that it has (encoder, or encoder and decoder), as
    `model.safetensors`. A model whose weights in memory are no longer those of its file is written to a new file first.

    Args:
        model: a name of `list_models()`, a `.safetensors` file of ours, or a model.
        repository: ORG/NAME, or NAME if the environment variable HEAR_MODELS_HUB_ORG gives the organisation.
        private: make a new repository private.
        branch: commit to this branch, made if it is not there; None: main.
        licence: of weights that you trained yourself, if the file states none; SPDX, for instance "CC-BY-4.0".
        permission: who allowed you to publish weights whose licence nobody stated; goes into the card.
        training: how the weights came about, for the card; needed for weights that were changed in memory.
        message: of the commit.
        allow_untrained: publish a random network too; its card says so.
        dry_run: do everything but talk to the Hub.
        token: for the Hub; None: the one that huggingface_hub finds.

    Returns:
        What was sent: `card`, `sha256`, `address` (what `load_model` takes), `upload` with the commit (None: dry run).

    Raises:
        UsageError: unknown name, no weights, untrained, a licence that forbids it or that nobody stated, no token.
        CheckpointError: the file is damaged, or the Hub refuses; the message says what exists there now.
    """
    from hear_models.zoo.publish import publish

    return publish(
        model,
        repository,
        private=private,
        branch=branch,
        licence=licence,
        permission=permission,
        training=training,
        message=message,
        allow_untrained=allow_untrained,
        dry_run=dry_run,
        token=token,
    )


def save(model: HearModel, path: str | os.PathLike[str], training: str | None = None) -> str:
    """`HearModel.save`."""
    from hear_models.zoo.saving import save

    return save(model, path, training)


hub_methods.bring(from_pretrained=from_pretrained, push_to_hub=push_to_hub, save=save)
