"""Fault 38: loading changes a process-wide setting of torch."""

import torch

from validate._base import Frames, hear_functions

EXPECTED = ("settings", "error", "torch.get_float32_matmul_precision()")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        torch.set_float32_matmul_precision("high")


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
