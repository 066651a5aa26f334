"""The card tells where weights come from and what nobody checked, and nothing in a file can write into it."""

from __future__ import annotations

import dataclasses
import re

import pytest

from hear_models.checkpoints.card import CardFacts, write_card
from hear_models.checkpoints.licences import FORBIDDEN, Licence, read_licence
from hear_models.checkpoints.manifest import Original
from hear_models.checkpoints.safetensors_file import Header

yaml = pytest.importorskip("yaml", reason="comes with huggingface_hub")
SHA256 = "ab" * 32
HEADER = Header("mwmae", {"encoder_depth": 2}, ("encoder",), True)
FACTS = CardFacts(
    repository="lab/model",
    branch=None,
    summary="a small network",
    header=HEADER,
    paper="Somebody et al., 2024, arXiv 2306.00561",
    sample_rate=16000,
    scene_embedding_size=512,
    timestamp_embedding_size=256,
    file="model.safetensors",
    sha256=SHA256,
    n_bytes=1234567,
    stored_as=("float16",),
    parameters=1000000,
    licence=read_licence("Apache-2.0"),
    licence_from="the manifest of small",
    permission=None,
    training=None,
    original=None,
    original_name=None,
    about=None,
)
SOURCE = {"file": "checkpoint_5", "format": "Flax MessagePack", "sha256": "cd" * 32, "bytes": 7, "step": 5}


def card(**changes) -> str:
    return write_card(dataclasses.replace(FACTS, **changes))


def converted(**changes) -> str:
    return card(header=dataclasses.replace(HEADER, source=SOURCE), **changes)


def front_matter(text: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


def unverified(text: str) -> str:
    return text.partition("## What was not verified")[2]


def test_front_matter_is_what_the_hub_sorts_models_by():
    assert front_matter(card()) == {
        "license": "apache-2.0",
        "library_name": "hear-models",
        "pipeline_tag": "feature-extraction",
        "tags": ["audio", "audio-embeddings", "hear-2021", "mwmae", "arxiv:2306.00561"],
    }
    assert front_matter(card(licence=read_licence("not stated")))["license"] == "unknown"
    other = front_matter(card(licence=Licence("Our: Licence\n2", FORBIDDEN)))
    assert (other["license"], other["license_name"]) == ("other", "our-licence-2")


def test_dimensions_rate_paper_file_and_digest_are_told():
    text = card()
    for fact in ("16000 Hz", "512 dimensions", "256 dimensions", "arXiv 2306.00561", "1,234,567 bytes", SHA256):
        assert fact in text, fact
    assert "encoder_depth 2" in text and "stored as float16; its parts: encoder" in text


def test_three_lines_load_the_model():
    (block,) = re.findall(r"```python\n(.*?)```", card(branch="next"), re.DOTALL)
    assert block.splitlines() == [
        "import hear_models",
        'model = hear_models.load_model("hf://lab/model@next")',
        'scene = hear_models.embed("recording.wav", model)',
    ]
    assert '"hf://lab/model"' in card()


def test_a_conversion_names_its_source_and_says_what_is_unknown_of_it():
    original = Original("https://example.org/weights", "Flax MessagePack", folder="run1")
    text = converted(original=original, original_name="mwmae-base")
    for value in SOURCE.values():
        assert str(value) in text
    assert "https://example.org/weights" in text and "mwmae-base" in text
    assert "none is known here" in unverified(text) and "equal those of the authors' code" in unverified(text)
    known = dataclasses.replace(original, sha256="ef" * 32)
    assert f"known here: {'ef' * 32}" in unverified(converted(original=known, original_name="mwmae-base"))
    assert "source" not in unverified(card())


def test_training_is_told_by_recipe_and_by_whoever_trained():
    notes = {"recipe": {"seed": 1, "data": {"alone": 0.5}}, "step": 1200, "started_from": {"sha256": "12" * 32}}
    text = card(header=dataclasses.replace(HEADER, notes=notes), training="on barks", licence_from="the publisher")
    assert "1200 updates" in text and "alone 0.5" in text and "on barks" in text and "12" * 32 in text
    assert "How the weights were trained" in unverified(text) and "The licence" in unverified(text)
    assert "The file does not say." in card()


def test_a_permission_is_quoted_and_not_vouched_for():
    text = card(permission="A. Author, by mail\n\n# yes")
    assert "> A. Author, by mail\n>\n> # yes\n" in text and "The permission" in unverified(text)


def test_a_random_network_is_called_one():
    text = card(header=dataclasses.replace(HEADER, trained=False))
    assert "**A random network" in text and "untrained" in front_matter(text)["tags"]


def test_text_from_a_file_stays_in_its_line():
    source = {"file": "x\n---\n# Heading\n<script>alert(1)</script> [link](https://evil.example)", "a\n## b": 1}
    text = card(header=dataclasses.replace(HEADER, source=source))
    assert "\n# Heading" not in text and "\n## b" not in text and text.count("\n---\n") == 1
    assert not leaks(text, "<script>") and not leaks(text, "[link]") and not leaks(text, "https://evil.example")


def leaks(text: str, what: str) -> bool:
    """Whether it stands in the text, neither escaped nor as code."""
    return what in re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text).replace(f"\\{what[0]}", "")


INJECTED = "<img src=x onerror=alert(1)> [a](https://evil.example) www.evil.example `b"


@pytest.mark.parametrize(
    "header",
    [
        dataclasses.replace(HEADER, parts=("encoder", INJECTED)),
        dataclasses.replace(HEADER, config={INJECTED: INJECTED}),
        dataclasses.replace(HEADER, converter=INJECTED, source={INJECTED: [INJECTED]}),
        dataclasses.replace(HEADER, notes={"recipe": {INJECTED: {INJECTED: INJECTED}}, "step": INJECTED}),
        dataclasses.replace(HEADER, notes={"recipe": 3, "data": {"sources": [{"name": INJECTED}, INJECTED]}}),
        dataclasses.replace(HEADER, notes={"started_from": {"name": INJECTED}}),
    ],
    ids=["parts", "config", "source", "recipe and step", "data", "started from"],
)
def test_nothing_in_a_header_becomes_html_or_a_link(header):
    text = card(header=header)
    for what in ("<img", "[a]", "https://evil.example", "www.evil.example"):
        assert not leaks(text, what), text


def test_the_terms_of_a_licence_are_text():
    text = card(licence=Licence(INJECTED, FORBIDDEN, terms=INJECTED), training=INJECTED).partition("\n---\n")[2]
    assert not leaks(text, "<img") and not leaks(text, "www.evil.example")


def test_a_text_written_by_hand_stands_in_the_card():
    assert "\n## About\n\nIt hears rain.\n" in card(about="It hears rain.")
