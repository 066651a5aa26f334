"""Archives of strangers: honest ones are unpacked whole, hostile ones leave nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from hear_models.errors import FileError, HearModelsError
from hear_models.fetching import unpacking
from hear_models.fetching.unpacking import unpack


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry, data


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], **options: object) -> Path:
    with tarfile.open(path, "w:gz", **options) as tar:
        for entry, data in members:
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_honest_archive_is_unpacked_whole(form, tmp_path):
    folder = member("events/Dog", type=tarfile.DIRTYPE)
    sizes = [0, 1, 511, 512, 513, 10_240, 3_000_000]
    files = {
        f"events/Dog/{'long ' * 12 * (size == 513)}{size}.wav": random.Random(size).randbytes(size) for size in sizes
    }
    path = archive(tmp_path / "a.tar.gz", folder, *(member(n, d) for n, d in files.items()), format=form)
    told: list[int] = []
    found = unpack(path, tmp_path / "events", told.append, lambda files: told.append(-len(files)))
    for name, data in files.items():
        assert (tmp_path / name).read_bytes() == data
    assert {f.name: (f.n_bytes, f.sha256) for f in found} == {
        name.removeprefix("events/"): (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    assert told == [1, 2, 3, 4, 5, 6, 7, -7] and sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "events"]


def test_an_archive_without_a_folder_of_its_own_gets_one(tmp_path):
    path = archive(tmp_path / "a.tar.gz", member("./x.txt", b"x"), member("y/z.txt", b"z"))
    assert [f.name for f in unpack(path, tmp_path / "a")] == ["x.txt", "y/z.txt"]
    assert (tmp_path / "a" / "y" / "z.txt").read_text() == "z"


HOSTILE = {
    "parent": [member("../evil", b"x")],
    "deep parent": [member("a/../../evil", b"x")],
    "absolute": [member("/tmp/evil", b"x")],
    "backslash": [member("a\\..\\evil", b"x")],
    "drive": [member("C:evil", b"x")],
    "control": [member("a\nb", b"x")],
    "link": [member("a", type=tarfile.SYMTYPE, linkname="/etc"), member("a/passwd", b"x")],
    "hard link": [member("a", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "device": [member("a", type=tarfile.CHRTYPE, devmajor=1)],
    "pipe": [member("a", type=tarfile.FIFOTYPE)],
    "twice": [member("a", b"x"), member("./a", b"y")],
    "twice, ignoring case": [member("Dog/a", b"x"), member("dog/A", b"y")],
    "below a file": [member("a", b"x"), member("a/b", b"y")],
    "a file over a folder": [member("a/b", b"y"), member("a", b"x")],
    "long name": [member("a" * 250, b"x")],
    "no name": [member(".", b"x")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing_behind(kind, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = archive(tmp_path / "a.tar.gz", member("honest", b"x"), *HOSTILE[kind])
    with pytest.raises(HearModelsError, match="Do not use it"):
        unpack(path, inside / "a")
    assert list(inside.iterdir()) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "inside"]


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.tar.gz", member("a", bytes(3_000_000)))
    monkeypatch.setattr(unpacking, "SMALL_BYTES", 1 << 20)
    with pytest.raises(HearModelsError, match="no recordings do"):
        unpack(path, tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    """A pax header may claim any size; tarfile would read it into memory."""
    entry = tarfile.TarInfo("header")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)))
    with pytest.raises(HearModelsError, match="header that no honest archive has"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "a")


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 3)
    path = archive(tmp_path / "a.tar.gz", *(member(str(k), b"x") for k in range(5)))
    with pytest.raises(HearModelsError, match="more than 3"):
        unpack(path, tmp_path / "a")


def test_a_sparse_file_is_refused(tmp_path):
    entry, _ = member("a", type=tarfile.GNUTYPE_SPARSE)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(HearModelsError, match="no plain file"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "a")


def test_damage_is_named_and_leaves_nothing_behind(tmp_path):
    path = archive(tmp_path / "a.tar.gz", *(member(f"f{k}", bytes([k]) * 3000) for k in range(20)))
    whole = path.read_bytes()
    step = max(1, len(whole) // 40)
    for cut in range(0, len(whole) - 1, step):
        path.write_bytes(whole[:cut])
        try:
            unpack(path, tmp_path / "a")
        except HearModelsError as error:
            assert "a.tar.gz" in str(error)
        assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"], cut
    for place in range(0, len(whole), step):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        try:
            found = unpack(path, tmp_path / "a")
        except HearModelsError:
            assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]
        else:  # a bit of the gzip header that says nothing
            assert len(found) == 20
            shutil.rmtree(tmp_path / "a")


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("x")
    with pytest.raises(FileError, match="there already"):
        unpack(archive(tmp_path / "a.tar.gz", member("b", b"x")), tmp_path / "a")
    assert (tmp_path / "a" / "mine").read_text() == "x"


# --------------------------------------------------------------------------------------------- zip, and other packing
def zipped(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name, data in members:
            file.writestr(name, data)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


HOSTILE_ZIPS = {
    "parent": [("../evil", b"x")],
    "absolute": [("/tmp/evil", b"x")],
    "drive": [("C:/evil", b"x")],
    "link": [(special("a", stat.S_IFLNK | 0o777), b"/etc"), ("a/passwd", b"x")],
    "device": [(special("a", stat.S_IFCHR | 0o666), b"")],
    "pipe": [(special("a", stat.S_IFIFO | 0o666), b"")],
    "twice": [("a", b"x"), ("a", b"y")],
    "twice, ignoring case": [("Dog/a", b"x"), ("dog/A", b"y")],
    "below a file": [("a", b"x"), ("a/b", b"y")],
    "long name": [("n" * 300, b"x")],
    "deep": [("/".join("d" * 60), b"x")],
}


@pytest.mark.parametrize("kind", HOSTILE_ZIPS)
def test_a_hostile_zip_leaves_nothing_behind(kind, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = zipped(tmp_path / "a.zip", ("honest", b"x"), *HOSTILE_ZIPS[kind])
    with pytest.raises(HearModelsError, match="Do not use it"):
        unpack(path, inside / "a")
    assert list(inside.iterdir()) == []


def test_a_zip_that_says_less_than_it_holds_or_too_much_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", ("a", bytes(3_000_000)))
    data = path.read_bytes()
    size = (3_000_000).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(HearModelsError, match=r"damaged"):
        unpack(tmp_path / "b.zip", tmp_path / "b")
    monkeypatch.setattr(unpacking, "SMALL_BYTES", 1 << 20)
    with pytest.raises(HearModelsError, match="unpacks to more than"):
        unpack(path, tmp_path / "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "b.zip"]


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zipped(tmp_path / "a.zip", ("a", b"x")).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(HearModelsError, match="no plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "a")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_that_is_no_utf8_is_refused(form, tmp_path):
    path = archive(tmp_path / "a.tar.gz", member("b\xe4d", b"x"), format=form, encoding="latin-1")
    with pytest.raises(HearModelsError, match="leads elsewhere"):
        unpack(path, tmp_path / "a")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_packing_of_tar_is_read_and_damage_is_named(mode, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as tar:
        entry, data = member("deep/a/x.txt", random.Random(0).randbytes(100_000))
        tar.addfile(entry, io.BytesIO(data))
    assert [file.name for file in unpack(path, tmp_path / "a")] == ["x.txt"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.txt"]
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(HearModelsError, match="damaged"):
        unpack(path, tmp_path / "b")
    assert not (tmp_path / "b").exists()
