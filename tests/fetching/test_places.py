"""Addresses are understood, and transfers from every kind of place end with the right file or one sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hub.faults import Fault

from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.fetching import drive as drives
from hear_models.fetching.download import Expected, Got, fetch
from hear_models.fetching.known import Changed, KnownFiles
from hear_models.fetching.listing import Place, place_of

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.mark.parametrize(
    ("address", "kind", "key"),
    [
        ("https://drive.google.com/drive/folders/1tM723MLFJRaWVmLVjE49pJ0Yi3lpMZHV?usp=sharing", "drive", None),
        ("https://drive.google.com/drive/u/0/folders/1tM723MLFJRaWVmLVjE49pJ0Yi3lpMZHV", "drive", None),
        ("https://doi.org/10.5281/zenodo.4593514", "zenodo", ("4593514",)),
        ("https://zenodo.org/records/4593514", "zenodo", ("4593514",)),
        ("https://zenodo.org/record/4593514/", "zenodo", ("4593514",)),
        ("https://github.com/nttcslab/msm-mae/releases", "github", ("nttcslab", "msm-mae", "")),
        ("https://github.com/nttcslab/m2d/releases/tag/v0.1.0", "github", ("nttcslab", "m2d", "v0.1.0")),
        ("https://zenodo.org/records/4593514/files/a.zip", "file", None),
        ("https://storage.googleapis.com/bucket/a/checkpoint_5", "file", None),
    ],
)
def test_an_address_is_understood(address, kind, key):
    place = place_of(address)
    assert place.kind == kind and (key is None or place.key == key)
    assert "/" not in place.folder and place.folder and not place.folder.startswith(".")


@pytest.mark.parametrize(
    "address",
    ["", "weights", "file:///etc/passwd", "ftp://a.org/b", "https://", "/etc/passwd", "https://[", "https://a b/c"],
)
def test_what_is_no_address_is_said(address):
    with pytest.raises(UsageError, match="no address"):
        place_of(address)


def test_every_manifest_has_an_address_that_is_understood():
    from hear_models.checkpoints.manifest import read_manifests

    kinds = {m.name: place_of(m.original.address).kind for m in read_manifests().values() if m.original}
    assert kinds["mwmae-base"] == "drive" and kinds["gise51-resnet18"] == "zenodo"
    assert kinds["msm-mae-80x208-0422"] == kinds["msm-mae-80x608-220924"] == "github"
    assert "file" not in kinds.values()


@pytest.mark.parametrize(
    "answer",
    [
        {"files": [{"key": "../x", "size": 1}]},
        {"files": [{"key": "a", "size": -1}]},
        {"files": [{"key": "a", "size": "many"}]},
        {"files": [{"key": "n" * 300}]},
        {"files": [{}]},
        {"files": 3},
        {},
        [],
        "text",
        None,
    ],
)
def test_a_list_that_is_none_is_one_sentence(answer, places, monkeypatch):
    monkeypatch.setattr("hear_models.fetching.listing.fetch_json", lambda url, pause=None: answer)
    for kind, key in (("zenodo", ("1",)), ("github", ("a", "b", "v"))):
        with pytest.raises(HearModelsError, match="does not list files as it should"):
            Place(kind, "https://example.org", key).files()


def get(places, target: Path, path: str = "files/a.bin", **more: object) -> str:
    return fetch(f"{places.site}/{path}", target, Expected(**more), pause=lambda seconds: None).sha256


def test_a_redirect_to_another_host_is_followed_and_gone_on_with(places, tmp_path):
    places.files["a.bin"] = DATA
    places.faults.add(Fault("cut", "/files/", after=100_000))
    assert get(places, tmp_path / "a", "moved/a.bin") == hashlib.sha256(DATA).hexdigest()
    assert places.fetched("/files/a.bin") == [(200, None), (206, "bytes=100000-")]


def test_a_file_that_changes_between_two_parts_is_fetched_from_its_beginning(places, tmp_path):
    places.files["a.bin"] = DATA
    places.faults.add(Fault("cut", "/files/", after=100_000))
    places.faults.add(Fault("status", "/files/", times=5))
    with pytest.raises(HearModelsError):
        get(places, tmp_path / "a")
    places.files["a.bin"] = DATA[::-1]
    assert get(places, tmp_path / "a") == hashlib.sha256(DATA[::-1]).hexdigest()


def test_a_slow_drip_ends_with_the_file(places, tmp_path):
    places.files["a.bin"] = DATA[:2000]
    places.faults.add(Fault("slow", "/files/", after=100, seconds=0.01))
    assert get(places, tmp_path / "a") == hashlib.sha256(DATA[:2000]).hexdigest()


def test_a_web_page_is_not_kept_as_a_file(places, tmp_path):
    places.files["a.bin"], places.headers = b"<html>", {"Content-Type": "text/html"}
    with pytest.raises(HearModelsError, match="web page instead of the file"):
        get(places, tmp_path / "a")
    assert list(tmp_path.glob("*a*part*")) == [] and not (tmp_path / "a").exists()
    places.headers = {"Content-Type": "text/html", "Content-Disposition": 'attachment; filename="a.html"'}
    get(places, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"<html>"


@pytest.mark.parametrize(
    "action", ["javascript:x", "file:///etc/passwd", "//127.0.0.1:1/x", "https://[", "\x00", "data:text/html,x"]
)
def test_a_form_leads_to_web_addresses_only(action):
    page = f'<form id="download-form" action="{action}"><input type="hidden" name="a" value="1"></form>'
    try:
        assert drives.behind_page("https://drive.google.com/uc?id=k", page).startswith("https://")
    except HearModelsError as error:
        assert "does not understand" in str(error)


def test_what_is_remembered_is_never_changed_and_can_be_shared(tmp_path):
    first, second = Got(1, "", "0" * 64), Got(2, "", "1" * 64)
    here = KnownFiles(tmp_path / "lock.json")
    assert here.note("m", "https://a.org", {"f": first}, "2026-01-02") == "2026-01-02"
    there = KnownFiles(tmp_path / "lock.json")
    assert there.note("m", "https://b.org", {"f": first, "g": second}, "2026-02-03") == "2026-01-02"
    with pytest.raises(Changed):
        here.note("m", "https://a.org", {"g": first}, "2026-03-04")
    assert json.loads((tmp_path / "lock.json").read_text()) == {
        "format": 1,
        "fetched": {
            "m": {
                "source": "https://a.org",
                "files": {
                    "f": {"bytes": 1, "sha256": "0" * 64, "date": "2026-01-02"},
                    "g": {"bytes": 2, "sha256": "1" * 64, "date": "2026-02-03"},
                },
            }
        },
    }
    with pytest.raises(FileError, match="cannot be written"):
        KnownFiles(tmp_path / "nowhere" / "lock.json").note("m", "s", {"f": first}, "2026-01-02")


def test_a_redirect_to_no_address_is_one_sentence(places, tmp_path):
    places.files["a.bin"] = DATA
    places.headers = {"Location": "https://["}
    places.faults.add(Fault("status", "/files/", status=302))
    with pytest.raises(HearModelsError, match=r"no address|refused"):
        get(places, tmp_path / "a")
