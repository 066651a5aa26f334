"""Fault 28: sizes are numpy integers."""

import numpy as np

from validate._base import Frames, hear_functions

EXPECTED = ("attributes", "error", "a numpy.int64")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        self.scene_embedding_size = np.int64(8)


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
