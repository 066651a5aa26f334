"""`model.push_to_hub` and `Model.from_pretrained`: methods of every model, done by the zoo, which stands a floor above.

An import never goes up, so the zoo brings its two functions here when it is imported, as every family does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from hear_models.errors import UsageError

Model = TypeVar("Model", bound="HubMethods")
_functions: dict[str, Callable[..., Any]] = {}


def bring(*, from_pretrained: Callable[..., Any], push_to_hub: Callable[..., Any]) -> None:
    """Called once, by the zoo."""
    _functions.update(from_pretrained=from_pretrained, push_to_hub=push_to_hub)


class HubMethods:
    """The two methods; `HearModel` inherits them."""

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


def _function(name: str) -> Callable[..., Any]:
    if name not in _functions:
        raise UsageError(f"{name} is the zoo's, which was not imported. Import hear_models.zoo first.")
    return _functions[name]
