"""Fault 38: load_model seeds the global generator."""

import torch

from validate._base import Frames, hear_functions

EXPECTED = ("random-state", "error", "load_model seeds")


class Model(Frames):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
