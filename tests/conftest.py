"""Fixtures of several folders, and a cache of the tests' own: what was fetched on this machine changes none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from made_up_family import made_up  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[None]:
    """An empty cache; only the tests of the released kit (`-m kit`) share its environment, which is built once."""
    if request.config.getoption("markexpr") == "kit":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "HEAR_MODELS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
