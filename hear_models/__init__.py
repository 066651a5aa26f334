"""hear-models: audio-representation models behind one contract, the HEAR 2021 API; nothing heavy is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hear_models.version import __version__

if TYPE_CHECKING:
    from hear_models.corpus.embed import embed
    from hear_models.corpus.reading import load_embeddings
    from hear_models.evaluation.board.frame import load_results
    from hear_models.zoo import from_pretrained, list_models, load_model, push_to_hub


__all__ = [
    "__version__",
    "embed",
    "from_pretrained",
    "list_models",
    "load_embeddings",
    "load_model",
    "load_results",
    "push_to_hub",
]

_HOMES = {
    **dict.fromkeys(("from_pretrained", "list_models", "load_model", "push_to_hub"), "hear_models.zoo"),
    "embed": "hear_models.corpus.embed",
    "load_embeddings": "hear_models.corpus.reading",
    "load_results": "hear_models.evaluation.board.frame",
}


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first used (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hear_models' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public functions too, before they are first used: for help, completion and `dir`."""
    return sorted({*globals(), *__all__})
