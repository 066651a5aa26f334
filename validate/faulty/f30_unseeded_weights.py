"""Fault 30: without a path, every load_model() draws another random network."""

from torch import nn

from validate._base import Frames, hear_functions

EXPECTED = ("reload", "warning", "two different networks")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        nn.init.normal_(self.weight, std=0.05)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
