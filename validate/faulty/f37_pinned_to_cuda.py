"""Fault 37: load_model chooses the device."""

from validate._base import Frames, hear_functions, load

EXPECTED = ("load", "error", "CUDA")


_, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Frames)


def load_model(model_file_path: str = "") -> Frames:
    """Raises without a GPU; with one, it decides for the caller."""
    return load(Frames, model_file_path).cuda()
