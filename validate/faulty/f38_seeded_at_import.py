"""Fault 38: importing the module seeds the global generators."""

import random

import torch

from validate._base import Frames, hear_functions

EXPECTED = ("random-state", "error", "importing the module")


random.seed(0)
torch.manual_seed(0)

load_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Frames)
