"""The faulty modules of `validate/faulty`, cured as the findings' examples say: what an author would write next.

A row: the check, the example as it is printed, and a module in which it is applied to the fault.
"""

from __future__ import annotations

HEAD = """
import numpy as np
import random
import torch
import safetensors.torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad
from validate._base import Frames, hear_functions, load
"""
TAIL = "\nload_model, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Model)\n"


def model(body: str) -> str:
    """A module around a class that overrides pieces of the correct model."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    return f"{HEAD}\nclass Model(Frames):\n{lines}{TAIL}"


def steps(body: str) -> str:
    """One whose timestamp embeddings are made by `body`, from `embeddings` and `timestamps` as the fault had them."""
    indented = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    return model(
        "def timestamp_embeddings(self, audio):\n    embeddings, timestamps = super().timestamp_embeddings(audio)\n"
        f"    model, hop_ms, steps = self, 50.0, timestamps.shape[1]\n{indented}"
    )


def begun(body: str) -> str:
    """One that first does `body` in each of the two functions."""
    return model(f"def begin(self, audio):\n    model = self\n    {body}\n    self.check(audio)")


SEEDED = "generator = torch.Generator().manual_seed(0)"
KEEP = (
    "end_ms = 1000 * audio.shape[1] / model.sample_rate; keep = timestamps[0] <= end_ms; keep[0] = True; "
    "return embeddings[:, keep], timestamps[:, keep].clamp(max=end_ms)"
)
EVEN = "timestamps = (hop_ms * torch.arange(steps)).expand(audio.shape[0], -1)"
EXACT = "(offset_ms + hop_ms * torch.arange(steps, dtype=torch.float64)).float().expand(audio.shape[0], -1)"
PADDED = "pad half a window on both sides: step k is then centred on k * hop"
OWN_STD = "x / (std + eps), each clip by its own std"
REFUSES = "if audio.ndim != 2 or not audio.is_floating_point(): raise ValueError(...)"
FINITE = "if not torch.isfinite(audio).all(): raise ValueError(...)"
SHORT = (
    "end_ms = 1000 * audio.shape[1] / model.sample_rate; "
    "audio = torch.nn.functional.pad(audio, (0, max(0, window - audio.shape[1]))); ...; "
    "keep = timestamps[0] <= end_ms; keep[0] = True; "
    "return embeddings[:, keep], timestamps[:, keep].clamp(max=end_ms)"
)
SHORT_BEFORE, SHORT_AFTER = SHORT.split(" ...; ")
# a module that frames without padding, as most short-clip faults do, with the example around it
SHORT_CURED = f"""
def frames(self, audio):
    return audio.unfold(1, self.window, self.hop)

def scene_embeddings(self, audio):
    window = self.window
    audio = torch.nn.functional.pad(audio, (0, max(0, window - audio.shape[1])))
    return super().scene_embeddings(audio)

def timestamp_embeddings(self, audio):
    model, window = self, self.window
    {SHORT_BEFORE}
    self.begin(audio)
    with torch.inference_mode():
        embeddings = self.steps(audio)
        timestamps = (50.0 * torch.arange(embeddings.shape[1]) + 12.5).repeat(len(audio), 1)
    {SHORT_AFTER}
"""
SPLIT = "torch.stack([embed(part) for part in audio.split(window, dim=1)]).mean(dim=0)"
WEIGHTS = "if model_file_path: model.load_state_dict(safetensors.torch.load_file(model_file_path))"
LOADED = f"{HEAD}\n_, get_timestamp_embeddings, get_scene_embeddings = hear_functions(Frames)\n"
HOP = "hop_ms = 1000.0 * hop_samples / sample_rate"
PLAIN = model("pass")
CENTRED = model(
    "def frames(self, audio):\n    half = self.window // 2\n"
    "    return pad(audio, (half, half)).unfold(1, self.window, self.hop)"
)
EVALUATING = f"""{LOADED}
def load_model(model_file_path: str = ""):
    model = load(Frames, model_file_path).train()
    return model.eval()
"""

CURES: list[tuple[str, str, str]] = [
    ("functions", 'def load_model(model_file_path: str = "") -> torch.nn.Module: ...', PLAIN),
    ("functions", "def get_timestamp_embeddings(audio, model): ...", PLAIN),
    ("functions", "def get_scene_embeddings(audio, model): ...", PLAIN),
    (
        "functions",
        'def load_model(model_file_path: str = "")',
        LOADED + 'def load_model(model_file_path: str = ""):\n    return load(Frames, model_file_path)\n',
    ),
    ("functions", "def get_scene_embeddings(audio, model)", PLAIN),
    ("load", "class Model(torch.nn.Module): ...", PLAIN),
    *(
        ("attributes", line, model(f"def __init__(self):\n    super().__init__()\n    {line}"))
        for line in ("self.sample_rate = 16000", "self.sample_rate = int(16000.0)")
    ),
    *(
        ("attributes", line, model(f"dim = {dim}\ndef __init__(self):\n    super().__init__()\n    {line}"))
        for line, dim in (
            ("self.scene_embedding_size = 1024", 1024),
            ("self.scene_embedding_size = int(np.int64(8))", 8),
        )
    ),
    ("timestamp-shapes", "return embeddings, timestamps", steps("return embeddings, timestamps")),
    (
        "timestamp-shapes",
        "return torch.from_numpy(embeddings), ...",
        steps(
            "embeddings, timestamps = embeddings.numpy(), timestamps.numpy()\n"
            "return torch.from_numpy(embeddings), torch.from_numpy(timestamps)"
        ),
    ),
    (
        "timestamp-shapes",
        "timestamps = timestamps.expand(audio.shape[0], -1)",
        steps(
            "timestamps = timestamps[0]\ntimestamps = timestamps.expand(audio.shape[0], -1)\n"
            "return embeddings, timestamps"
        ),
    ),
    (
        "timestamp-shapes",
        "self.timestamp_embedding_size = 8",
        model("def __init__(self):\n    super().__init__()\n    self.timestamp_embedding_size = 8"),
    ),
    (
        "scene-shapes",
        "return torch.from_numpy(embeddings)",
        model(
            "def scene_embeddings(self, audio):\n    embeddings = super().scene_embeddings(audio).numpy()\n"
            "    return torch.from_numpy(embeddings)"
        ),
    ),
    (
        "scene-shapes",
        "return embeddings.mean(dim=1)",
        model("def pool(self, embeddings):\n    return embeddings.mean(dim=1)"),
    ),
    (
        "dtypes",
        "return result.float()",
        model(
            "def scene_embeddings(self, audio):\n    result = super().scene_embeddings(audio).half()\n"
            "    return result.float()"
        ),
    ),
    (
        "finite",
        "log(x + eps); (x - mean) / (std + eps), or zeros for a constant clip",
        model(
            "def encode(self, frames):\n    x, eps = (frames @ self.weight).abs(), 1e-6\n    return torch.log(x + eps)"
        ),
    ),
    (
        "weights-path",
        WEIGHTS,
        f'{LOADED}def load_model(model_file_path: str = ""):\n    model = Frames()\n    {WEIGHTS}\n    return model\n',
    ),
    (
        "reload",
        f"{SEEDED}  # and initialise from it",
        model(
            f"def __init__(self):\n    super().__init__()\n    {SEEDED}\n"
            "    nn.init.normal_(self.weight, std=0.05, generator=generator)"
        ),
    ),
    ("device", "return Model()  # without .cuda()", PLAIN),
    (
        "device",
        'self.register_buffer("taper", tensor, persistent=False)',
        model(
            "def __init__(self):\n    super().__init__()\n    tensor = torch.hann_window(self.window)\n"
            '    self.register_buffer("taper", tensor, persistent=False)\n'
            "def encode(self, frames):\n    return super().encode(frames * self.taper)"
        ),
    ),
    (
        "batch",
        "mean = x.mean(dim=(1, 2), keepdim=True)  # over one clip, not over dim 0",
        model(
            "def encode(self, frames):\n    x = super().encode(frames)\n    mean = x.mean(dim=(1, 2), keepdim=True)\n"
            "    return x - mean"
        ),
    ),
    (
        "silent-neighbour",
        OWN_STD,
        model(
            "def prepare(self, x):\n    std, eps = x.std(dim=1, keepdim=True), 1e-5\n    return x / (std + eps)\n"
            "def check(self, audio):\n    pass"
        ),
    ),
    ("short-clips", SHORT, model(SHORT_CURED)),
    ("refusals", REFUSES, model(f"def check(self, audio):\n    {REFUSES}\n    super().check(audio)")),
    ("nan-input", FINITE, model(f"def check(self, audio):\n    {FINITE}")),
    ("times-finite", EVEN, steps(f"timestamps = timestamps * float('nan')\n{EVEN}\nreturn embeddings, timestamps")),
    ("times-regular", EVEN, steps(f"timestamps = timestamps.flip(1)\n{EVEN}\nreturn embeddings, timestamps")),
    (
        "times-regular",
        "timestamps = row.expand(audio.shape[0], -1)",
        steps("row = timestamps[0]\ntimestamps = row.expand(audio.shape[0], -1)\nreturn embeddings, timestamps"),
    ),
    ("times-regular", EXACT, steps(f"offset_ms = 0.0\nreturn embeddings, {EXACT}")),
    (
        "times-range",
        "timestamps = 1000.0 * seconds",
        steps("seconds = timestamps / 1000\ntimestamps = 1000.0 * seconds\nreturn embeddings, timestamps"),
    ),
    (
        "times-range",
        KEEP,
        steps(
            "embeddings = torch.cat([embeddings, embeddings[:, -1:]], dim=1)\n"
            f"timestamps = torch.cat([timestamps, timestamps[:, -1:] + 50], dim=1)\n{KEEP}"
        ),
    ),
    (
        "times-range",
        KEEP,
        steps(f"embeddings, timestamps = embeddings.mean(dim=1, keepdim=True), timestamps[:, -1:] + 5000\n{KEEP}"),
    ),
    (
        "times-range",
        PADDED,
        CENTRED,
    ),
    (
        "times-range",
        "embed all of the audio, a part at a time if it is long; not audio[:, :limit]",
        steps("return embeddings, timestamps"),
    ),
    (
        "centres",
        "with half a window of padding on both sides, step k is centred on k * hop",
        CENTRED,
    ),
    (
        "repeatable",
        "model.eval()  # in load_model and at the start of each get_* function",
        model(
            "def begin(self, audio):\n    model = self\n    model.eval()\n    self.check(audio)\n"
            "def encode(self, frames):\n    return dropout(super().encode(frames), 0.1, training=self.training)"
        ),
    ),
    (
        "stateless",
        "model.eval(), and no attribute is assigned in get_*",
        model("def prepare(self, audio):\n    return audio * (1 + 0.1 * audio.abs().mean(dim=1, keepdim=True))"),
    ),
    (
        "eval-mode",
        "return model.eval()",
        EVALUATING,
    ),
    ("eval-mode", "model.eval()  # first line of get_*", begun("model.eval()  # first line of get_*")),
    (
        "gradients",
        "with torch.inference_mode(): ...",
        model(
            "def scene_embeddings(self, audio):\n    self.begin(audio)\n"
            "    with torch.inference_mode():\n        return self.pool(self.steps(audio))"
        ),
    ),
    (
        "input-untouched",
        "audio = audio / peak   # not audio /= peak",
        model(
            "def prepare(self, audio):\n    peak = audio.abs().amax(dim=1, keepdim=True).clamp(min=1)\n"
            "    audio = audio / peak   # not audio /= peak\n    return audio"
        ),
    ),
    ("random-state", f"{SEEDED}  # instead of torch.manual_seed(0)", f"{HEAD}\n{SEEDED}\n{PLAIN}"),
    (
        "random-state",
        "torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))",
        model(
            "def __init__(self):\n    super().__init__()\n    weight = self.weight\n"
            "    torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))"
        ),
    ),
    (
        "random-state",
        "noise = torch.randn(n, generator=own_generator)",
        model(
            "def prepare(self, audio):\n    n, own_generator = audio.shape[1], torch.Generator().manual_seed(0)\n"
            "    noise = torch.randn(n, generator=own_generator)\n    return audio + 1e-9 * noise"
        ),
    ),
    (
        "autocast",
        "return embeddings.float()",
        model(
            "def steps(self, audio):\n    embeddings = (self.frames(audio) @ self.weight).abs()\n"
            "    return embeddings.float()"
        ),
    ),
    (
        "whole-clip",
        f"{SPLIT}   # not audio[:, :window]",
        model(
            "def scene_embeddings(self, audio):\n    embed, window = super().scene_embeddings, 10 * self.sample_rate\n"
            f"    return {SPLIT}"
        ),
    ),
    ("whole-clip", "embed all parts, or always the same ones", PLAIN),
    (
        "drift",
        f"{HOP}   # 801 samples at 16 kHz are 50.0625 ms",
        model(
            "hop = 799\ndef times_ms(self, n_samples):\n    hop_samples, sample_rate = self.hop, self.sample_rate\n"
            f"    {HOP}   # 801 samples at 16 kHz are 50.0625 ms\n"
            "    return torch.arange(n_samples // self.hop + 1, dtype=torch.float64) * hop_ms"
        ),
    ),
    (
        "drift",
        HOP,
        model(
            "hop = 798\ndef times_ms(self, n_samples):\n    hop_samples, sample_rate = self.hop, self.sample_rate\n"
            f"    {HOP}\n    return torch.arange(n_samples // self.hop + 1, dtype=torch.float64) * hop_ms"
        ),
    ),
]
