"""`model.save`, `model.push_to_hub`, `Model.from_pretrained`: methods of every model, done by the zoo, a floor above.

An import never goes up, so the zoo brings its functions here when it is imported, as every family does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from hear_models.errors import UsageError

Model = TypeVar("Model", bound="HubMethods")
_functions: dict[str, Callable[..., Any]] = {}


def bring(**functions: Callable[..., Any]) -> None:
    """Called once, by the zoo, with a function for each method."""
    _functions.update(functions)


class HubMethods:
    """The three methods; `HearModel` inherits them."""

    family: ClassVar[str]

    @classmethod
    def from_pretrained(cls: type[Model], name: str, *, revision: str | None = None, **options: Any) -> Model:
        """A model of this family from the Hub, a registry name or a file; see `hear_models.from_pretrained`.

        Raises UsageError if it is of another family.
        """
        family = getattr(cls, "family", None)
        model: Model = _function("from_pretrained")(name, revision=revision, family=family, **options)
        return model

    def push_to_hub(self, repository: str, **settings: Any) -> Any:
        """Publish this model on the Hub with a generated card; see `hear_models.push_to_hub`."""
        return _function("push_to_hub")(self, repository, **settings)

    def save(self, path: str | os.PathLike[str], training: str | None = None) -> str:
        """Write weights and configuration as a file that `load_model` takes; the decoder, too, if the model has one.

        Args:
            path: ends in `.safetensors`; a file that is there is replaced whole or not at all.
            training: how the weights came about, a sentence for the header and the card, for instance "fine-tuned on
                bird calls". Without it a network that did not begin with trained weights counts as untrained.

        Returns:
            The file's sha256.

        Raises:
            UsageError: another ending, no such folder, a model without weights.
            FileError: the file cannot be written.
        """
        sha256: str = _function("save")(self, path, training)
        return sha256


def _function(name: str) -> Callable[..., Any]:
    if name not in _functions:
        raise UsageError(f"{name} is the zoo's, which was not imported. Import hear_models.zoo first.")
    return _functions[name]
