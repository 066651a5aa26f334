"""Fault 19: a hop of 100 ms."""

from validate._base import Frames, hear_functions

EXPECTED = ("times-regular", "warning", "100.00 ms")


class Model(Frames):
    hop = 1600


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
