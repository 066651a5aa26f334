"""The base at 32 kHz (which the older hear-validator 2021.0.2 refuses wrongly)."""

from validate._base import Frames, hear_functions


class Model(Frames):
    sample_rate, window, hop = 32000, 800, 1600


load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)
