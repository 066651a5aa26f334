"""When a recording began, from its file's name as common recorders write it.

    recorder                                          name
    AudioMoth                                         20240501_040000.WAV, 20240501_040000T.WAV, ID_20240501_040000.WAV
    AudioMoth before 2019                             5CC9A2B0.WAV: seconds since 1970, hexadecimal, in UTC
    Song Meter (SM2 to SM4, Mini, Micro), Echo Meter  S_20240501_040000.wav, S_0+1_20240501_040000_000.wav, $ for _
    Frontier Labs BAR-LT                              20240501T040000+1000_SITE.flac
    Cornell Swift, SwiftOne                           SITE_20240501_040000.wav, SITE_20240501_040000_-0500.wav
    SoundTrap                                         5146.240501040000.wav
    icListen, ONC                                     ICLISTENHF1234_20240501T040000.000Z.wav
    HARP, Zoom                                        SITE_240501_040000.x.wav, 240501-040000.WAV
    BirdNET-Pi, BirdNET-Go                            2024-05-01-birdnet-04:00:00.wav, birdnet_20240501T040000Z.wav
    Anabat Swift, telephones, ISO 8601                2024-05-01 04-00-00.wav, 2024-05-01T04_00_00+02:00.wav

A time stands without a zone where the name has none: recorders then mean what their clock was set to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import PurePath

YEARS = range(1990, 2100)  # others are numbers of something else
_ZONE = r"(?:_?(?P<zone>Z|[+-](?:0\d|1[0-4]):?(?:00|15|30|45))(?![0-9:]))?"
_DAY = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
_TIME = r"(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"(?<!\d){_DAY}[_T$-]?{_TIME}(?!\d)(?:\.(?P<part>\d{{3}})(?=Z))?T?{_ZONE}",
        r"(?<!\d)(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:[ _T]|-birdnet-(?:RTSP_\w+-)?)"
        rf"(?P<hour>\d\d)[-:._h](?P<minute>\d\d)[-:._m](?P<second>\d\d)(?!\d)s?(?:[.,](?P<part>\d{{3}})(?!\d))?{_ZONE}",
        r"(?<!\d)(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)[_-](?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?!\d)",
        r"^\d{3,}\.(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?!\d)",
    )
)
_HEXADECIMAL = re.compile(r"(?=.*[A-F])[56][0-9A-F]{7}")


def began_at(name: str) -> datetime | None:
    """When the recording of that name or path began, with its zone if the name has one; None if it does not tell.

    Of two times in a name the first counts: some recorders write the end behind it.
    """
    name = PurePath(name.replace("\\", "/")).name
    stem = name.partition(".")[0]
    if _HEXADECIMAL.fullmatch(stem):
        return datetime.fromtimestamp(int(stem, 16), timezone.utc)
    for form in _FORMS:
        for found in form.finditer(name):
            if (time := _time(found.groupdict())) is not None:
                return time
    return None


def clock_times(began: datetime | None, offsets_ms: Sequence[float]) -> list[str]:
    """ISO 8601, to the millisecond, of each offset from the beginning; empty where that is not known."""
    if began is None:
        return [""] * len(offsets_ms)
    return [(began + timedelta(milliseconds=float(ms))).isoformat(timespec="milliseconds") for ms in offsets_ms]


def without_clock(names: Sequence[str]) -> str | None:
    """One line that counts the recordings whose names tell no time; None if all do."""
    lacking = [name for name in names if began_at(name) is None]
    if not lacking:
        return None
    return f"{len(lacking)} of {len(names)} names tell no time, the first: {lacking[0]!r}; their clock is empty"


def _time(parts: dict[str, str | None]) -> datetime | None:
    year, month, day, hour, minute, second = (
        int(parts[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    year += 2000 if year < 100 else 0
    if year not in YEARS:
        return None
    try:
        return datetime(
            year, month, day, hour, minute, second, 1000 * int(parts.get("part") or 0), _zone(parts.get("zone"))
        )
    except ValueError:  # the 31st of February: digits of something else
        return None


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    if text == "Z":
        return timezone.utc
    sign = -1 if text[0] == "-" else 1
    digits = text[1:].replace(":", "")
    return timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
