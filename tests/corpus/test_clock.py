"""Times of day from the names that recorders give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hear_models.corpus.clock import began_at, clock_times, without_clock

NAMES = {
    "20240501_040000.WAV": "2024-05-01T04:00:00",
    "20240501_040000T.WAV": "2024-05-01T04:00:00",
    "24F31901_20240501_040000.WAV": "2024-05-01T04:00:00",
    "20240501_040000.WAV.ch2": "2024-05-01T04:00:00",
    "site/night/20240501_040000.WAV": "2024-05-01T04:00:00",
    "20230101/SITE_20240501_040000.wav": "2024-05-01T04:00:00",
    "C:\\data\\SITE_20240501_040000.wav": "2024-05-01T04:00:00",
    "5CC9A2B0.WAV": "2019-05-01T13:44:16+00:00",
    "S4A01234_20240501_040000.wav": "2024-05-01T04:00:00",
    "SITE_0+1_20240501_040000_000.wav": "2024-05-01T04:00:00",
    "SITE_-0_20240501$040000.wav": "2024-05-01T04:00:00",
    "20240501T040000+1000_SITE.flac": "2024-05-01T04:00:00+10:00",
    "20240501T040000+1000_REC [-27.38 153.0].flac": "2024-05-01T04:00:00+10:00",
    "20240501T040000-0330_20240501T050000-0330_x.flac": "2024-05-01T04:00:00-03:30",
    "SITE_20240501_040000_-0500.wav": "2024-05-01T04:00:00-05:00",
    "SITE_20240501_040000Z.wav": "2024-05-01T04:00:00+00:00",
    "5146.240501040000.wav": "2024-05-01T04:00:00",
    "ICLISTENHF1234_20240501T040000.250Z.wav": "2024-05-01T04:00:00.250000+00:00",
    "GofMX_DT01_240501_040000.x.wav": "2024-05-01T04:00:00",
    "240501-040000.WAV": "2024-05-01T04:00:00",
    "2024-05-01-birdnet-04:00:00.wav": "2024-05-01T04:00:00",
    "birdnet_20240501T040000Z.wav": "2024-05-01T04:00:00+00:00",
    "2024-05-01 04-00-00.wav": "2024-05-01T04:00:00",
    "2024-05-01 04.00.00.m4a": "2024-05-01T04:00:00",
    "channelA_2024-05-01_04-00-00.wav": "2024-05-01T04:00:00",
    "2024-05-01T04_00_00+02:00.wav": "2024-05-01T04:00:00+02:00",
    "20240501040000.mp3": "2024-05-01T04:00:00",
    "take 20240501_040000-0001.wav": "2024-05-01T04:00:00",  # a number, no zone
    "20240229_235959.wav": "2024-02-29T23:59:59",
}
NONE = [
    *("rain.wav", "", "20240501.wav", "20240230_040000.wav", "20240501_250000.wav", "20240501_046000.wav"),
    *("18000101_000000.wav", "120240501_040000.wav", "20240501_0400001.wav", "ZOOM0001.wav", "240501_0001.wav"),
    *("12345678.wav", "ABCDEF12.wav", "5CC9A2B.wav", "231301_040000.wav", "R09_0001.mp3", "1-100032-A-0.wav"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_recorders_tell_the_time(name: str) -> None:
    found = began_at(name)
    assert found is not None and found.isoformat() == NAMES[name]


@pytest.mark.parametrize("name", NONE)
def test_other_digits_tell_none(name: str) -> None:
    assert began_at(name) is None


def test_times_are_iso_and_go_on_past_midnight() -> None:
    began = began_at("20240501_235959.WAV")
    assert clock_times(began, [0.0, 1500.0]) == ["2024-05-01T23:59:59.000", "2024-05-02T00:00:00.500"]
    assert clock_times(None, [0.0, 1.0]) == ["", ""]
    assert without_clock(["20240501_235959.WAV"]) is None
    assert without_clock(["20240501_235959.WAV", "rain.wav"]) == (
        "1 of 2 names tell no time, the first: 'rain.wav'; their clock is empty"
    )


def test_the_documented_names_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "long-recordings.md").read_text(encoding="utf-8")
    table = page.partition("| recorder | name |")[2].partition("\n\n")[0]
    names = re.findall(r"`([^`]+)`", table)
    assert len(names) >= 17
    assert [name for name in names if began_at(name) is None] == []
