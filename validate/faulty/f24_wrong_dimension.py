"""Fault 24: the embeddings have another size than the model says."""

from validate._base import Frames, hear_functions

EXPECTED = ("timestamp-shapes", "error", "8 dimensions; timestamp_embedding_size is 9")


class Model(Frames):
    def __init__(self) -> None:
        super().__init__()
        self.timestamp_embedding_size = 9


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
