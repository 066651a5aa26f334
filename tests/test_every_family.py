"""Every HEAR module of the package keeps the contract: what `hear-models validate` checks, up to 2 minutes of audio."""

from __future__ import annotations

import importlib

import pytest

from hear_models.validation import family_modules, validate
from hear_models.zoo import list_models

MODULES = family_modules()


@pytest.mark.filterwarnings("ignore:.*no trained weights")
@pytest.mark.parametrize("name", MODULES)
def test_family_keeps_the_contract(name):
    """The default model: batch and length independence, centres, short clips, linear time and memory, and the rest."""
    report = validate(name, length="quick")
    assert report.ok, "\n".join(f"{finding.check}: {finding.found}" for finding in report.findings("error"))
    assert not any(result.skipped for result in report.results)


def test_every_model_of_the_registry_belongs_to_a_module():
    families = {name.removeprefix("hear_models.") for name in MODULES}
    assert {entry.family for entry in list_models()} == families


@pytest.mark.filterwarnings("ignore:.*no trained weights")
@pytest.mark.parametrize("name", MODULES)
def test_sizes_are_those_of_the_registry(name):
    """`hear-models list` promises dimensions without loading the model."""
    entry = next(entry for entry in list_models() if entry.default and name.endswith(f".{entry.family}"))
    module = importlib.import_module(name)
    model = module.load_model()
    assert (model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size) == (
        entry.sample_rate,
        entry.scene_embedding_size,
        entry.timestamp_embedding_size,
    )
