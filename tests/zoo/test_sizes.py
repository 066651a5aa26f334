"""A header that asks for more than its file can fill is refused before anything of that size is built."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import asdict, fields

import pytest

from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.errors import CheckpointError
from hear_models.fields import check_fields
from hear_models.zoo import load_model
from hear_models.zoo.families import families, family_module, new_model

SMALL = {
    "mwmae": {"encoder_width": 24, "encoder_depth": 1, "encoder_heads": 3},
    "msm_mae": {"width": 24, "depth": 1, "heads": 3},
    "logmel_stats": {},
    "random_projection": {},
}


def sizes(family: str) -> list[str]:
    config = family_module(family).Config()
    return [f.name for f in fields(config) if type(getattr(config, f.name)) is int and not f.name.endswith("seed")]


@pytest.mark.parametrize("family", SMALL)
def test_a_size_that_the_file_cannot_fill_is_refused_at_once(family, tmp_path):
    module = family_module(family)
    config = module.Config(**check_fields(module.Config, SMALL[family]))
    tensors = new_model(module, config, seed=0).state_dict()
    parts = ("encoder",) if tensors else ()
    for name in sizes(family):
        for value in (10**5, 10**9):
            path = tmp_path / "asked.safetensors"
            write_checkpoint(path, family=family, config={**asdict(config), name: value}, tensors=tensors, parts=parts)
            tracemalloc.start()
            began = time.monotonic()
            try:
                load_model(path)
            except CheckpointError as error:
                assert "asked.safetensors" in str(error)
            taken, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert taken < 10 and peak < 500e6, f"{name}={value}: {taken:.1f} s, {peak / 1e6:.0f} MB"


def test_no_family_of_this_package_is_above_the_limits():
    from hear_models.zoo.registry import list_models
    from hear_models.zoo.sizes import check_sizes

    for family in families():
        check_sizes(asdict(family_module(family).Config()), 0, family)
    for entry in list_models():
        check_sizes(entry.manifest.configuration, 0, entry.name)
