"""Mixtures as JAMS files (Humphrey et al. 2014), in scaper's namespace: written, and read from strangers."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

from hear_models.datasets.library import Library
from hear_models.datasets.mixtures import (
    DURATION_S,
    FADE_S,
    REFERENCE_LUFS,
    SAMPLE_RATE,
    Mixture,
    Sound,
)
from hear_models.errors import FileError, InputError
from hear_models.files import shown
from hear_models.foreign import read_json

NAMESPACE = "scaper"
LARGEST_BYTES = 1 << 20  # the authors' have 7 kB
LARGEST_STRETCH = 2.0


def mixture_as_jams(mixture: Mixture, foreground: Library, background: Library) -> str:
    """The JAMS file of a mixture: what its annotation holds is what scaper 1.6.4 writes."""
    parts = [mixture.background, *mixture.by_time()]
    curator = {"name": "", "email": ""}
    about = dict.fromkeys(
        ("version", "corpus", "annotation_tools", "annotation_rules", "validation", "data_source"), ""
    )
    annotation = {
        "annotation_metadata": {"curator": curator, "annotator": {}, **about},
        "namespace": NAMESPACE,
        "data": [_observation(sound, sound is mixture.background) for sound in parts],
        "sandbox": {
            NAMESPACE: {
                "duration": DURATION_S,
                "sr": SAMPLE_RATE,
                "ref_db": REFERENCE_LUFS,
                "n_channels": 1,
                "fade_in_len": FADE_S,
                "fade_out_len": FADE_S,
                "n_events": len(mixture.events),
                "fg_labels": foreground.labels,
                "bg_labels": background.labels,
                "fix_clipping": True,
                "reverb": None,
            }
        },
        "time": 0,
        "duration": DURATION_S,
    }
    metadata = {"title": "", "artist": "", "release": "", "duration": DURATION_S, "identifiers": {}}
    document = {"annotations": [annotation], "file_metadata": {**metadata, "jams_version": "0.3.4"}, "sandbox": {}}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _observation(sound: Sound, is_background: bool) -> dict[str, Any]:
    return {
        "time": sound.event_time_s,
        "duration": sound.duration_s * (sound.stretch or 1.0),
        "value": {
            "label": sound.label,
            "source_file": f"{'bg' if is_background else 'fg'}/{sound.label}/{sound.file.name}",
            "source_time": sound.source_time_s,
            "event_time": sound.event_time_s,
            "event_duration": sound.duration_s,
            "snr": sound.snr_db,
            "role": "background" if is_background else "foreground",
            "pitch_shift": None,
            "time_stretch": sound.stretch,
        },
        "confidence": 1.0,
    }


def read_jams(path: Path, foreground: Library, background: Library) -> Mixture:
    """The mixture of a JAMS file of scaper, its sounds found by label and file name in two libraries.

    Raises:
        InputError: no such file, another duration than 5 s, a pitch shift, reverberation, a sound that the libraries
            lack, or a number out of range; the message names it.
    """
    where = shown(path)
    try:
        document = read_json(path, LARGEST_BYTES)
    except FileError as error:
        raise InputError(f"{where} cannot be read as JAMS: {error}") from None
    try:
        [annotation] = [a for a in document["annotations"] if a["namespace"] == NAMESPACE]
        settings = annotation.get("sandbox", {}).get(NAMESPACE, {})
        parts = [(item["value"]["role"], _sound(item["value"], foreground, background)) for item in annotation["data"]]
        duration_s, reverb = document["file_metadata"]["duration"], settings.get("reverb")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where} is no JAMS file of one soundscape ({error!r}). Give a file of scaper's.") from None
    if duration_s != DURATION_S or reverb:
        raise InputError(
            f"{where} lasts {duration_s} s, reverberation {reverb}. Only 5 s without it are rendered here."
        )
    backgrounds = [sound for role, sound in parts if role == "background"]
    if len(backgrounds) != 1:
        raise InputError(f"{where} has {len(backgrounds)} backgrounds. Give soundscapes with one.")
    return Mixture(backgrounds[0], tuple(sound for role, sound in parts if role != "background"))


def _sound(value: dict[str, Any], foreground: Library, background: Library) -> Sound:
    """A sound of the annotation. InputError, KeyError, TypeError or ValueError for what is none."""
    role, label = str(value["role"]), str(value["label"])
    if role not in ("background", "foreground"):
        raise InputError(f"the role {role!r} is unknown. Correct it.")
    if value.get("pitch_shift") is not None:
        raise InputError("a pitch shift is not rendered here. Leave the file out.")
    name = PurePosixPath(str(value["source_file"]).replace("\\", "/")).name
    library = background if role == "background" else foreground
    file = library.find(label, name)
    if file is None:
        raise InputError(f"{label}/{name} is not in {library.folder}. Give the folder that it was mixed from.")
    longest = 1e6
    begin = _number(value, "source_time", 0.0, longest)
    duration = _number(value, "event_duration", 1 / SAMPLE_RATE, DURATION_S)
    place = _number(value, "event_time", 0.0, DURATION_S - 1 / SAMPLE_RATE)
    stretch = value.get("time_stretch")
    if stretch is not None:
        stretch = _number(value, "time_stretch", 1 / LARGEST_STRETCH, LARGEST_STRETCH)
    if role == "background":
        return Sound(label, file, begin, duration)
    return Sound(label, file, begin, duration, place, _number(value, "snr", -200.0, 200.0), stretch)


def _number(value: dict[str, Any], name: str, low: float, high: float) -> float:
    number = value[name]
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise InputError(f"{name} is {number!r}, not a number. Correct it.")
    if not low <= number <= high:
        raise InputError(f"{name} is {number}. It lies between {low:g} and {high:g}.")
    return float(number)
