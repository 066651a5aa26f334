"""Fault 30: the weights path is ignored."""

from validate._base import Frames, hear_functions

EXPECTED = ("weights-path", "error", "path is ignored")


_, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Frames)


def load_model(model_file_path: str = "") -> Frames:
    """The same network, whatever is asked for."""
    return Frames()
