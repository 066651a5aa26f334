"""Drawing without matplotlib's global state; matplotlib is optional (`hear-models[plots]`) and loaded when needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from hear_models.errors import UsageError
from hear_models.files import write_atomically


def new_figure(width: float = 5, height: float = 5) -> Any:
    """An empty matplotlib Figure, sizes in inches. UsageError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("Pictures need matplotlib. Install it: pip install 'hear-models[plots]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_picture(path: Path) -> None:
    """Raise UsageError for a picture that cannot be drawn: no matplotlib, or an ending that it does not know."""
    if path.suffix.lower().removeprefix(".") not in new_figure().canvas.get_supported_filetypes():
        raise UsageError(f"{path} is no picture's name. Let it end in .png, .svg or .pdf.")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure whole or not at all, in the format of the path's ending."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lower().removeprefix("."), dpi=150)
    write_atomically(path, picture.getvalue())
