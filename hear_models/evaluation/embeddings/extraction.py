"""Embeds a task: files, order and labels of hear-eval-kit's `heareval.embeddings.runner`, faster, and cached."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.embeddings.embedding_cache import EmbeddingCache, key_digest
from hear_models.evaluation.embeddings.embedding_writing import PROFILE, SplitWriter, copy_task_files, names_of
from hear_models.evaluation.embeddings.folder import packing_order
from hear_models.evaluation.embeddings.reading import Clip, read_ahead
from hear_models.files import write_durably
from hear_models.pipeline.encoders import Batch, ClipStream, Encoders
from hear_models.pipeline.plan import Purpose
from hear_models.subjects.code import own_code_sha256
from hear_models.subjects.loaded import Loaded
from hear_models.subjects.subject import Subject
from hear_models.subjects.weights import weights_sha256
from hear_models.subjects.wording import describe
from hear_models.tasks.task import EVENT, Task, TaskError

BATCH_SECONDS = {"cpu": 16.0, "cuda": 600.0}  # audio handed to the model at once; the model bounds its own memory
BATCHES = ("clips", "kit")


@dataclass(frozen=True)
class Extraction:
    """Where a task's embeddings lie, and how they were made (of a reused folder: when it was made)."""

    folder: Path
    sha256: str  # of the key: weights, options, code, task data
    dim: int
    clips: int
    batches: str  # "clips": batches of our own making; "kit": those of the kit's runner
    device: str
    wall_s: float
    cpu_s: float  # of this process
    reused: bool


def extract(
    subject: Subject | Loaded,
    task: Task,
    embeddings_dir: str | os.PathLike[str],
    *,
    device: str | None = None,
    batches: str | None = None,
    workers: int | None = None,
    batch_seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    wait: Callable[[str], None] | None = None,
) -> Extraction:
    """Write EMBEDDINGS_DIR/SLUG/TASK as the kit's runner would, unless it is there already.

    It is there if it was made from the same weights, options, code and task data. Finished splits of an interrupted
    run are kept. Of models whose clips do not depend on each other clips of any lengths go through together; of others,
    and of foreign modules, the kit's batches are kept, so that they give what they give there.

    Args:
        subject: what `resolve` gave, or its loaded model (to be loaded once for many tasks).
        task: what to embed, at the model's sample rate.
        embeddings_dir: folder of folders; may be shared with the kit's predictor.
        device: torch device; None takes cuda if there is one. Not together with a loaded model.
        batches: "clips" or "kit"; None chooses as said above.
        workers: decoding threads; default: as many as CPU cores, at most 4.
        batch_seconds: audio handed to the model at once with batches="clips"; default 16 on a CPU, 600 on a GPU.
        progress: called with the clips done and the clips in all.
        wait: told, in a sentence, if another run embeds the same at the moment, which is then waited for; None:
            UsageError.

    Raises:
        TaskError: no audio at the model's rate, or a clip that is missing, damaged, not mono or of another rate.
        HearModelsError: the module failed, or gave NaN or infinity; with the clip.
        UsageError: `batches` that the model cannot keep, or a folder that this program did not write.
    """
    loaded = _loaded(subject, device)
    mode = _mode(loaded, batches)
    name = f"{loaded.subject.name} on {task.name}"
    _require_audio(task, loaded.sample_rate)
    cache = EmbeddingCache(
        Path(embeddings_dir) / loaded.subject.slug / task.name, _key(loaded, task, mode), names_of(task)
    )
    total = sum(task.counts.values())
    report = progress or (lambda done, in_all: None)
    if (notes := cache.finished()) is not None:
        report(total, total)
        return _extraction(cache, notes, reused=True)
    run = _TaskEmbedder(loaded, task, mode, workers or min(4, os.cpu_count() or 1), batch_seconds)
    with cache.work(wait) as folder:
        if (notes := cache.finished()) is not None:  # by another run, between the two looks
            cache.drop()
            return _extraction(cache, notes, reused=True)
        copy_task_files(task, folder)
        orders = packing_order({split: list(task.items(split)) for split in task.splits})
        splits: dict[str, dict[str, Any]] = {}
        done = 0
        for split in task.splits:
            finished = cache.finished_split(split)
            if finished is None:
                cache.clear_split(split)
                run.report = partial(_report_after, report, done, total)
                finished = run.embed_split(split, folder, orders[split], cache.folder)
                cache.finish_split(split, finished)
            splits[split] = finished
            done += len(task.items(split))
            report(done, total)
        if len(dims := {split["dim"] for split in splits.values()}) > 1:
            raise HearModelsError(f"{name}: the splits' embeddings have {sorted(dims)} dimensions. Repair the module.")
        notes = {
            "dim": dims.pop(),
            "clips": total,
            "batches": mode,
            "device": str(loaded.device),
            **{key: round(sum(s[key] for s in splits.values()), 3) for key in ("wall_s", "cpu_s")},
        }
        write_durably(folder / PROFILE, json.dumps(_profile(loaded.device, notes["wall_s"]), indent=4).encode())
        cache.finish(task.splits, notes)
    return _extraction(cache, notes, reused=False)


def key_sha256(loaded: Loaded, task: Task, batches: str | None = None) -> str:
    """The `Extraction.sha256` that `extract` would give, without embedding anything; raises as it would."""
    _require_audio(task, loaded.sample_rate)
    return key_digest(_key(loaded, task, _mode(loaded, batches)))


def kit_batch_size(sample_duration: float | None, sample_rate: int) -> int:
    """Clips in a batch of the kit's runner: about 84 s of audio at 16 kHz; one if clips have no common length."""
    if sample_duration is None:
        return 1
    return max(1, int(0.7 * (120 / sample_duration) * (16000 / sample_rate)))


def _report_after(report: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    report(before + done, total)


def _loaded(subject: Subject | Loaded, device: str | None) -> Loaded:
    if isinstance(subject, Loaded):
        if device is not None and torch.device(device) != subject.device:
            raise UsageError(f"{subject.subject.name} is loaded on {subject.device}. Leave device out.")
        return subject
    return subject.load(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _mode(loaded: Loaded, batches: str | None) -> str:
    if batches is not None and batches not in BATCHES:
        raise UsageError(f"batches={batches!r} is unknown. Use one of {', '.join(BATCHES)}.")
    if batches == "clips" and loaded.subject.is_ours and loaded.batch_dependent:
        raise UsageError(
            f"{loaded.subject.name}: with these options an embedding depends on its neighbours in the batch. "
            'Keep the kit\'s batches with batches="kit".'
        )
    return batches or ("kit" if loaded.batch_dependent else "clips")


def _require_audio(task: Task, sample_rate: int) -> None:
    rates = task.rates()
    if sample_rate not in rates:
        there = f"it has {', '.join(map(str, rates))} Hz" if rates else "it has no audio at all"
        raise TaskError(
            f"{task.name} has no audio at {sample_rate} Hz ({there}). "
            f"`hear-models tasks resample` makes one rate from another."
        )


def _key(loaded: Loaded, task: Task, mode: str) -> dict[str, Any]:
    """What decides the numbers in a folder; the device is left out, and noted beside them."""
    subject = loaded.subject
    return {
        "module": subject.module,
        "options": subject.options,
        "configuration": repr(loaded.model.config) if subject.is_ours else None,
        "checkpoint_sha256": subject.checkpoint_sha256,
        "weights_sha256": weights_sha256(loaded.model),
        "code_sha256": subject.code_sha256,
        "extraction_sha256": _own_code_sha256(),
        "data_sha256": task.data_sha256(loaded.sample_rate),
        "embedding_type": task.embedding_type,
        "batches": mode,
        "torch": torch.__version__.partition("+")[0],
    }


@lru_cache(maxsize=1)
def _own_code_sha256() -> str:
    return own_code_sha256()


def _extraction(cache: EmbeddingCache, notes: dict[str, Any], reused: bool) -> Extraction:
    names = ("dim", "clips", "batches", "device", "wall_s", "cpu_s")
    return Extraction(cache.folder, cache.sha256, **{name: notes[name] for name in names}, reused=reused)


def _profile(device: torch.device, seconds: float) -> dict[str, Any]:
    """profile.embeddings.json as the kit writes it: seconds, GB of GPU memory, the device's name."""
    cuda = device.type == "cuda"
    memory = torch.cuda.max_memory_reserved(device) / 2**30 if cuda else None
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    return {"time_elapsed": seconds, "gpu_max_mem": memory, "gpu_device_name": name}


class _TaskEmbedder:
    """One model over the splits of one task: clips from the decoders, through the model, to the writer."""

    def __init__(self, loaded: Loaded, task: Task, mode: str, workers: int, batch_seconds: float | None) -> None:
        self.loaded, self.task, self.mode, self.workers = loaded, task, mode, workers
        self.report: Callable[[int], None] = lambda done: None
        rate = loaded.sample_rate
        if batch_seconds is None:  # a foreign model may not bound its memory: as much audio as the kit hands it
            default = BATCH_SECONDS.get(loaded.device.type, BATCH_SECONDS["cuda"])
            batch_seconds = default if loaded.subject.is_ours else 84 * 16000 / rate
        self.batch_samples = None if mode == "kit" else batch_seconds * rate
        self.batch_clips = kit_batch_size(task.sample_duration, rate) if mode == "kit" else None

    def embed_split(self, split: str, folder: Path, packed: Sequence[str], shown_as: Path) -> dict[str, Any]:
        """Write one split; returns its width and times."""
        wall, cpu = time.perf_counter(), time.process_time()
        rate, files = self.loaded.sample_rate, list(self.task.items(split))
        paths = [(file, self.task.audio(rate, split, file)) for file in files]
        with ExitStack() as stack:
            writer = stack.enter_context(closing(SplitWriter(self.task, split, folder, packed, shown_as)))
            clips = stack.enter_context(closing(read_ahead(paths, rate, self.task.sample_duration, self.workers)))
            encoders = stack.enter_context(closing(self._encoders(len(files))))
            done = 0
            for batch in self._batches(clips, encoders):
                self._write(batch, writer)
                done += len(batch.tags)
                self.report(done)
            dim = writer.finish()
        return {"dim": dim, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

    def _encoders(self, clips: int) -> Encoders:
        if not self.loaded.subject.is_ours:
            return Encoders(self._by_functions)
        one_by_one = self.mode == "kit"  # a model whose batches matter is asked for one at a time
        return Encoders.of(self.loaded.model, self.loaded.device, 1 if one_by_one else clips)

    def _batches(self, clips: Iterator[Clip], encoders: Encoders) -> Iterator[Batch[str]]:
        """By the names of their clips."""
        stream: ClipStream[str] = ClipStream(
            encoders,
            self.loaded.device,
            "timestamps" if self.task.embedding_type == EVENT else "scene",
            batch_samples=self.batch_samples,
            batch_clips=self.batch_clips,
        )
        for clip in clips:
            yield from stream.add(clip.file, clip.samples)
        yield from stream.finish()

    def _write(self, batch: Batch[str], writer: SplitWriter) -> None:
        """Hand the embeddings of a batch to the writer. An error names its clips."""
        try:
            found = batch.result()
            if self.task.embedding_type == EVENT:
                writer.add(batch.tags, [_array(e) for e, _ in found], [_array(t) for _, t in found])
            else:
                # of ours in one piece from the GPU; a foreign module's are on the CPU, and may differ in width
                rows = torch.stack(found).cpu() if self.loaded.subject.is_ours else found
                writer.add(batch.tags, [_array(row) for row in rows])
        except HearModelsError as error:
            raise self._located(error, writer.split, batch.tags) from error
        except (RuntimeError, MemoryError) as error:  # torch says so when a GPU's memory is full
            raise self._located(HearModelsError(f"{describe(error)}."), writer.split, batch.tags) from error

    def _by_functions(self, clips: Sequence[Tensor], purpose: Purpose) -> list[Any]:
        """What the two functions of a foreign module give, on the CPU; clips of equal length in one call."""
        lengths = {len(clip) for clip in clips}
        if self.mode == "kit" and len(lengths) > 1:
            raise TaskError(
                f"clips have {min(lengths)} to {max(lengths)} samples, but the task's sample_duration promises one "
                "length, by which the kit makes its batches. Repair the task, or set sample_duration to null."
            )
        results: dict[int, Any] = {}
        for length in dict.fromkeys(map(len, clips)):
            group = [k for k, clip in enumerate(clips) if len(clip) == length]
            stacked = torch.stack([clips[k] for k in group])
            if purpose == "timestamps":
                embeddings, times = self.loaded.timestamps(stacked)
                results |= zip(group, zip(embeddings.cpu(), times.cpu(), strict=True), strict=True)
            else:
                results |= zip(group, self.loaded.scene(stacked).cpu(), strict=True)
        return [results[k] for k in range(len(clips))]

    def _located(self, error: HearModelsError, split: str, files: Sequence[str]) -> HearModelsError:
        """The same error with the clips at which it happened, unless it names one."""
        if any(file in str(error) for file in files):
            return error
        clips = files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"
        where = f"{self.loaded.subject.name}, {self.task.name}/{split}, {clips}"
        return type(error)(f"{where}: {error}")


def _array(tensor: Tensor) -> np.ndarray:
    """On the CPU, in the model's own dtype."""
    if tensor.dtype == torch.bfloat16:
        raise HearModelsError("the embeddings are bfloat16, which files cannot hold. Return them as float32.")
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array
