"""The record is fetched, unpacked, remembered and checked; whatever is altered afterwards is named."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hub.faults import Fault
from hub.zenodo import ZenodoServer

from hear_models.cli.gise51 import command
from hear_models.datasets.gise51_check import classes_of_gise51
from hear_models.errors import FileError, HearModelsError, UsageError


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def sound(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise = 0.1 * np.random.default_rng(seed).standard_normal(30_000)
    soundfile.write(buffer, noise, 22_050, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def label_map(names: tuple[str, ...]) -> bytes:
    return json.dumps({name: index for index, name in enumerate(names)}).encode()


@pytest.fixture
def zenodo(monkeypatch) -> Iterator[ZenodoServer]:
    """A record of the authors' file names, with a few seconds of noise in it."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    events = {
        f"isolated_events/{part}/{label}/{k}.wav": sound(k)
        for part, k in (("train", 1), ("val", 2))
        for label in ("Dog", "Gong")
    }
    lists = {"meta/lbl_map.json": label_map(classes_of_gise51()), "meta/train.csv": b"files,labels\na.wav,Dog\n"}
    record = {
        "isolated_events.tar.gz": packed(events),
        "noises.tar.gz": packed({"noises/hum/9.wav": sound(9)}),
        "meta.tar.gz": packed(lists),
        "val.tar.gz": packed({"val/a.txt": b"x"}),
        "readme.md": b"text",
    }
    with ZenodoServer(record) as server:
        monkeypatch.setenv("HEAR_MODELS_ZENODO", server.site + "/")
        yield server


def gise51(*arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def download(*arguments: object) -> Result:
    done = gise51("download", *arguments)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_what_mixing_needs_is_fetched_checked_mixed_and_packed(zenodo, tmp_path):
    folder = tmp_path / "gise51"
    said = download(folder).output
    assert "isolated_events: fetched" in said and "4 files" in said
    archives = ("isolated_events", "noises", "meta")
    wanted = {f"{name}{end}" for name in archives for end in ("", ".tar.gz", ".files.tsv")} | {"gise51.lock.json"}
    assert {path.name for path in folder.iterdir()} == wanted
    for full in ((), ("--full",)):
        checked = gise51("check", folder, *full, "--json")
        assert checked.exit_code == 0, checked.output
        reports = {report["name"]: report for report in json.loads(checked.output)}
        assert set(reports) == {"gise51", "train", "val", "noises", "meta"}
        assert reports["train"]["labels"] == {"Dog": 1, "Gong": 1} and len(reports["meta"]["labels"]) == 51
        assert "12,465" in reports["train"]["findings"][0]["text"]
    before = len(zenodo.requests)
    again = download(folder).output
    assert "was there" in again and "fetched" not in again and len(zenodo.requests) == before + 1  # the listing
    mixed = gise51("mix", folder / "isolated_events" / "train", folder / "noises", tmp_path / "mix", "--number", 2)
    assert mixed.exit_code == 0, mixed.output
    assert gise51("check", tmp_path / "mix", "--full").exit_code == 0
    assert gise51("pack", tmp_path / "mix", tmp_path / "shards").exit_code == 0
    assert gise51("check", tmp_path / "shards", "--full").exit_code == 0


def test_the_record_is_listed_and_chosen_from(zenodo, tmp_path):
    listed = gise51("download", tmp_path / "x", "--list").output
    assert "isolated_events.tar.gz" in listed and "16,357 clips" in listed and "readme.md" in listed
    assert not (tmp_path / "x").exists()
    download(tmp_path / "x", "--only", "val", "--remove-archives")
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["gise51.lock.json", "val", "val.files.tsv"]
    count = len(zenodo.fetched())
    download(tmp_path / "x", "--only", "val.tar.gz")
    assert len(zenodo.fetched()) == count
    with pytest.raises(UsageError, match=r"no test\.tar\.gz. It has: isolated_events, noises"):
        download(tmp_path / "x", "--only", "test")


def test_a_download_that_was_stopped_goes_on(zenodo, tmp_path, monkeypatch):
    monkeypatch.setattr("hear_models.fetching.web.time.sleep", lambda seconds: None)
    zenodo.faults.add(Fault("cut", "isolated_events", after=5000))
    zenodo.faults.add(Fault("status", "isolated_events", times=5))
    with pytest.raises(HearModelsError, match="5,000 bytes are kept"):
        download(tmp_path, "--only", "isolated_events")
    download(tmp_path, "--only", "isolated_events")
    assert zenodo.fetched()[-1] == (206, "bytes=5000-")


def test_what_came_first_is_believed_and_nothing_else_from_then_on(zenodo, tmp_path):
    """Without a digest of Zenodo's: the lock file alone decides."""
    zenodo.listed["meta.tar.gz"] = {"checksum": None}
    download(tmp_path, "--only", "meta")
    for name in ("meta.tar.gz", "meta.files.tsv"):
        (tmp_path / name).unlink()
    (tmp_path / "meta").rename(tmp_path / "aside")
    zenodo.files["meta.tar.gz"] = packed({"meta/lbl_map.json": b"{}"})
    with pytest.raises(HearModelsError, match=r"its SHA-256 is .* it should be"):
        download(tmp_path, "--only", "meta")
    assert not (tmp_path / "meta").exists() and not (tmp_path / "meta.tar.gz").exists()
    (tmp_path / "gise51.lock.json").write_text("{")
    with pytest.raises(FileError, match=r"lock\.json is damaged"):
        download(tmp_path, "--only", "meta")


def test_a_file_of_another_digest_than_zenodo_lists_is_refused(zenodo, tmp_path):
    zenodo.listed["meta.tar.gz"] = {"checksum": "md5:" + "0" * 32}
    with pytest.raises(HearModelsError, match="its MD5 is"):
        download(tmp_path, "--only", "meta")
    assert not (tmp_path / "gise51.lock.json").exists() and not (tmp_path / "meta").exists()


@pytest.mark.parametrize(
    "entry", [{"key": "../evil"}, {"key": "a/b"}, {"key": 3}, {"size": -1}, {"size": "many"}], ids=str
)
def test_a_listing_that_is_none_is_refused(entry, zenodo, tmp_path):
    zenodo.listed["meta.tar.gz"] = entry
    with pytest.raises(HearModelsError, match="does not list files as it should"):
        download(tmp_path / "x", "--only", "meta")


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(zenodo, tmp_path):
    zenodo.listed["meta.tar.gz"] = {"size": 10**18}
    with pytest.raises(FileError, match="GB free"):
        download(tmp_path, "--only", "meta")
    assert zenodo.fetched() == []


def test_whatever_was_altered_afterwards_is_named(zenodo, tmp_path):
    download(tmp_path)
    bark = tmp_path / "isolated_events" / "train" / "Dog" / "1.wav"
    data = bark.read_bytes()
    bark.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # same size: only digests tell
    assert gise51("check", tmp_path).exit_code == 0
    full = gise51("check", tmp_path, "--full")
    assert full.exit_code == 1 and "1 files of isolated_events are altered" in " ".join(full.output.split())
    (tmp_path / "noises" / "hum" / "9.wav").unlink()
    (tmp_path / "meta.tar.gz").write_bytes(b"x")
    (tmp_path / "meta" / "lbl_map.json").write_bytes(label_map(classes_of_gise51()[::-1]))
    (tmp_path / "meta" / "train.csv").write_text("files,labels\na.wav,Cat\n")
    said = " ".join(gise51("check", tmp_path).output.split())
    for what in ("are missing", "meta.tar.gz is not what was downloaded", "in another order", "such as 'Cat'"):
        assert what in said, what
    (tmp_path / "noises.files.tsv").write_text("nothing\n")
    done = gise51("check", tmp_path)
    assert isinstance(done.exception, FileError) and "line 1" in str(done.exception)


def test_a_folder_of_ones_own_is_checked(tmp_path):
    for label in ("Door", "Bell"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.wav").write_bytes(sound(1))
    (tmp_path / "Bell" / "2.wav").write_text("no audio")
    (tmp_path / "Bell" / "._3.wav").write_text("no audio, and hidden")
    soundfile.write(tmp_path / "Door" / "2.flac", np.zeros(44_100), 44_100)
    soundfile.write(tmp_path / "Door" / "3.wav", np.full(44_100, np.nan, np.float32), 44_100, subtype="FLOAT")
    (tmp_path / "loose.wav").write_bytes(sound(2))
    quick, full = gise51("check", tmp_path), gise51("check", tmp_path, "--full", "--json")
    assert quick.exit_code == full.exit_code == 1 and "cannot be read" in quick.output
    (report,) = json.loads(full.output)
    assert report["clips"] == 5 and report["rates"] == {"22050": 2, "44100": 2}
    found = {finding["text"][:30]: finding["files"] for finding in report["findings"]}
    assert ["Bell/2.wav"] in found.values() and ["loose.wav"] in found.values()
    assert ["Door/2.flac"] in found.values() and ["Door/3.wav"] in found.values()


def test_wrong_use_is_one_sentence(tmp_path):
    for arguments, what in (
        (("check", tmp_path / "nowhere"), "is not there"),
        (("mix", tmp_path, tmp_path, tmp_path / "out"), "--number, or which by --jams"),
        (("mix", tmp_path, tmp_path, tmp_path / "out", "--number", 1), "holds no recordings"),
    ):
        done = gise51(*arguments)
        assert isinstance(done.exception, UsageError) and what in str(done.exception)
    assert not (tmp_path / "out").exists()
    assert gise51("check", tmp_path).exit_code == 1
