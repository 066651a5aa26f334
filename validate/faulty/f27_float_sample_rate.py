"""Fault 27: the sample rate is 16000.0, a float."""

from validate._base import Frames, hear_functions

EXPECTED = ("attributes", "error", "a builtins.float")


class Model(Frames):
    sample_rate = 16000.0


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
