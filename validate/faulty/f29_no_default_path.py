"""Fault 29: load_model needs an argument."""

from validate._base import Frames, hear_functions, load

EXPECTED = ("functions", "error", "cannot be called as load_model()")


_, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Frames)


def load_model(model_file_path: str) -> Frames:
    """The kit calls load_model() when no weights are given."""
    return load(Frames, model_file_path)
