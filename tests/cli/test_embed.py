"""`hear-models embed` as a user runs it: output, exit codes, interruption, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from hear_models import mwmae
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.cli.embed import command
from hear_models.errors import HearModelsError, UsageError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, patch_frames=40, decoder_width=16)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_checkpoint(
        path, family="mwmae", config=asdict(config), tensors=mwmae.Model(config).state_dict(), trained=True
    )
    return str(path)


def noise(path: Path, seconds: float, seed: int = 0, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-9000, 9000, round(seconds * rate), dtype=np.int16)
    soundfile.write(path, samples, rate)


def embed(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def in_process(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hear_models.cli.main", "embed", *map(str, arguments)]


def load_all(folder: Path) -> dict[str, np.ndarray]:
    """Every .npz below a folder, read to its last byte."""
    found = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            found[path.relative_to(folder).as_posix()] = archive["embeddings"]
    return found


def test_a_folder_is_embedded_and_told_in_two_lines(tmp_path: Path, model: str) -> None:
    noise(tmp_path / "in/a.wav", 1)
    noise(tmp_path / "in/b.flac", 2)
    result = embed(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 files embedded -> ") and "2 embeddings of 3.0 s of audio" in result.stdout
    assert list(load_all(tmp_path / "out")) == ["a.wav.npz", "b.flac.npz"]
    again = embed(tmp_path / "in", "--output", tmp_path / "out", "--model", model)
    assert again.exit_code == 0 and "0 files embedded, 2 were there already" in again.stdout


def test_json_is_one_object_on_stdout_and_nothing_else(tmp_path: Path, model: str) -> None:
    noise(tmp_path / "in/a.wav", 1)
    (tmp_path / "in/b.wav").write_text("words")
    done = subprocess.run(
        in_process(tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--json"), capture_output=True, text=True
    )
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert (summary["files"], summary["embedded"], summary["skipped"], summary["embeddings"]) == (2, 1, 0, 1)
    assert [Path(failure["path"]).name for failure in summary["failed"]] == ["b.wav"]
    assert 0 <= summary["decode_wait_share"] <= 1 and summary["audio_s"] == 1.0
    assert "b.wav" in done.stderr and "1 file of 2 could not be embedded" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_exits_with_2_before_anything_is_loaded(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 0.1)
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        (["missing.wav"], "Missing option '-o'"),
        (["missing.wav", "-o", "out"], "does not exist"),
        ([tmp_path / "empty", "-o", "out"], "No recordings"),
        ([tmp_path / "a.wav", "-o", "out", "--kind", "scenes"], "Invalid value for '--kind'"),
        ([tmp_path / "a.wav", "-o", "out", "--hop", "1"], "--window"),
        ([tmp_path / "a.wav", "-o", "out", "-m", "mwmae-nanoo"], "Did you mean mwmae-nano"),
        ([tmp_path / "a.wav", "-o", "out", "-m", "mwmae-tiny"], "--allow-untrained"),
        ([tmp_path / "a.wav", "-o", "out", "--workers", "0"], "at least 1"),
        ([tmp_path / "a.wav", "-o", "out", "--window", "abc"], "not a valid float"),
    ]:
        code = f"import sys; sys.argv = {['hear-models', 'embed', *map(str, arguments)]!r}\n" + (
            "from hear_models.cli.main import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
        assert done.stdout.strip() == "False"  # torch takes seconds


def test_an_unknown_model_and_random_weights_are_refused(tmp_path: Path, model: str) -> None:
    noise(tmp_path / "a.wav", 0.1)
    result = embed(tmp_path / "a.wav", "-o", tmp_path / "out", "-m", "no-such-model")
    assert isinstance(result.exception, HearModelsError) and "no-such-model" in str(result.exception)
    config = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, patch_frames=40, decoder_width=16)
    path = tmp_path / "random.safetensors"
    write_checkpoint(
        path, family="mwmae", config=asdict(config), tensors=mwmae.Model(config).state_dict(), trained=False
    )
    result = embed(tmp_path / "a.wav", "-o", tmp_path / "out", "-m", path)
    assert isinstance(result.exception, UsageError) and "--allow-untrained" in str(result.exception)
    assert not (tmp_path / "out").exists()
    assert embed(tmp_path / "a.wav", "-o", tmp_path / "out", "-m", path, "--allow-untrained").exit_code == 0


def test_help_is_readable_at_80_columns() -> None:
    done = subprocess.run(in_process("--help"), capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    for option in ("--window", "--dtype", "--device", "--overwrite", "--allow-untrained", "--json", "--batch-seconds"):
        assert option in done.stdout


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for k in range(80):
        noise(tmp_path / f"in/{k % 4}/{k:02d}.wav", 4.0, seed=k)
    return tmp_path / "in"


def started(command_line: list[str], folder: Path, pattern: str) -> Iterator[subprocess.Popen[str]]:
    """Start, wait for the first outputs, hand over the running process."""
    # a background job is started with SIGINT ignored, and hands that down
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command_line, **pipes, text=True, preexec_fn=listen)
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.rglob(pattern))) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_leaves_only_whole_files_and_the_same_command_completes_it(many: Path, model: str) -> None:
    out = many.parent / "out"
    arguments = (many, "-o", out, "-m", model, "--batch-seconds", 4)
    for process in started(in_process(*arguments), out, "*.npz"):
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = load_all(out)  # fails on a file that is cut off
    assert 3 <= len(done) < 80
    result = embed(*arguments, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["skipped"] == len(done)
    finished = load_all(out)
    assert len(finished) == 80
    assert not [path for path in out.rglob("*") if path.is_file() and path.suffix != ".npz"]
    embed(many, "-o", many.parent / "again", "-m", model)
    for name, embeddings in load_all(many.parent / "again").items():
        np.testing.assert_allclose(finished[name], embeddings, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_exits_with_130_keeps_what_is_done_and_leaves_nothing_half_written(many: Path, model: str) -> None:
    out = many.parent / "out"
    for process in started(in_process(many, "-o", out, "-m", model, "--batch-seconds", 4), out, "*.npz"):
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "stopped" in stderr and "Traceback" not in stderr
    assert 3 <= len(load_all(out)) < 80
    assert not [path for path in out.rglob("*") if path.is_file() and path.suffix != ".npz"]


def test_window_keeps_memory_constant_however_long_the_recording_is(tmp_path: Path, model: str) -> None:
    """Peak memory for 12 minutes is that for 1 (decoded whole, 11 minutes more are 42 MB of samples alone)."""
    peaks = []
    for minutes in (1, 12):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16000, 1) as file:
            for k in range(minutes):
                file.write(np.random.default_rng(k).integers(-9000, 9000, 60 * 16000, dtype=np.int16))
        code = (
            "import resource, sys; from hear_models.cli.embed import command\n"
            "command.main(sys.argv[1:], standalone_mode=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        arguments = [
            path,
            "-o",
            tmp_path / "out",
            "-m",
            model,
            "--kind",
            "timestamps",
            "--window",
            10,
            "--device",
            "cpu",
        ]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[-1]) / (1 << (20 if sys.platform == "darwin" else 10)))
        with np.load(tmp_path / "out" / f"{path.name}.npz") as archive:
            times = archive["timestamps_ms"]
            assert len(times) == len(archive["embeddings"])
            assert 0 <= times[0] < 400 and 0 <= minutes * 60_000 - times[-1] < 400
    assert peaks[1] - peaks[0] < 20, f"peak memory in MiB: {peaks}"


# --------------------------------------------------------------------------------------------- what shells make of it
def test_a_variable_of_the_shell_that_is_not_set_is_no_folder(tmp_path: Path, model: str, monkeypatch) -> None:
    from hear_models.cli.main import cli

    noise(tmp_path / "a.wav", 0.3)
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["embed", "", "-o", "out"],
        ["embed", "a.wav", "", "-o", "out"],
        ["embed", "a.wav", "-o", ""],
        ["embed", "a.wav", "-o", "out", "--segments", ""],
        ["tag", ""],
        ["verify", "a.wav", ""],
        ["synthesise", ""],
        ["tasks", "check", ""],
    ):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 2 and "it is empty" in result.output, (arguments, result.output)
    assert os.listdir() == ["a.wav"]
    assert CliRunner().invoke(cli, ["embed", ".", "-o", "out", "-m", model]).exit_code == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_sentence(tmp_path: Path, model: str) -> None:
    noise(tmp_path / "a.wav", 0.3)
    for arguments in ([tmp_path / "a.wav", "-o", tmp_path / "out", "-m", model], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(in_process(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if line]
        assert done.returncode == 1 and lines == [
            "error: what was to be printed cannot be written: No space left on device."
        ]
    assert (tmp_path / "out/a.wav.npz").exists()


@pytest.mark.parametrize("value", ["inf", "nan", "0", "-3"])
def test_endless_batches_are_told(tmp_path: Path, model: str, value: str) -> None:
    noise(tmp_path / "a.wav", 0.3)
    with pytest.raises(UsageError, match="batch_seconds"):
        raise embed(tmp_path / "a.wav", "-o", tmp_path / "out", "-m", model, "--batch-seconds", value).exception  # type: ignore[misc]


def test_channels_segments_and_standard_input_on_the_command_line(tmp_path: Path, model: str) -> None:
    noise(tmp_path / "a.wav", 1.0)
    (tmp_path / "t.csv").write_text("path,start_s,end_s\na.wav,0,0.5\na.wav,0.25,1\n")
    told = embed(tmp_path / "a.wav", "-o", tmp_path / "rows", "-m", model, "--segments", tmp_path / "t.csv")
    assert told.exit_code == 0 and "2 embeddings" in told.output
    assert embed(tmp_path / "a.wav", "-o", tmp_path / "each", "-m", model, "--channel", "each").exit_code == 0
    assert (tmp_path / "each/a.wav.ch1.npz").exists()
    content = (tmp_path / "a.wav").read_bytes()
    done = subprocess.run(
        in_process("-", "-o", tmp_path / "piped", "-m", model), input=content, capture_output=True, check=False
    )
    assert done.returncode == 0 and load_all(tmp_path / "piped")["stdin.npz"].ndim == 1
    (tmp_path / "cut.wav").write_bytes(content[:9000])
    told = embed(tmp_path / "cut.wav", "-o", tmp_path / "cut", "-m", model)
    assert told.exit_code == 1 and "is cut off or damaged" in told.output
    (tmp_path / "open.wav").write_bytes(content[:40] + bytes(4) + content[44:])
    told = embed(tmp_path / "open.wav", "-o", tmp_path / "open", "-m", model)
    assert told.exit_code == 0 and "warning: " in told.output and "read to the end of the file." in told.output
