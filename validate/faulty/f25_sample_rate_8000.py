"""Fault 25: a sample rate that the HEAR data does not have."""

from validate._base import Frames, hear_functions

EXPECTED = ("attributes", "error", "8000 Hz")


class Model(Frames):
    sample_rate, window, hop = 8000, 200, 400


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
