"""`hear-models demo`: embeds the recordings that ship with the package and shows which of them sound alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-m", "--model", "name", default="", help="A name of `hear-models list`, a .safetensors file, or hf://ORG/REPO."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("hear-models-demo"),
    show_default=True,
    help="Folder for the embeddings.",
)
def command(name: str, output: Path) -> None:
    """Embed ten short recordings that ship with the package.

    Prints shapes, times and a table of similarities, and leaves the embeddings as .npz files.
    The recordings are synthetic; `hear_models/_demo/README.txt` says how they were made.
    """
    import numpy as np

    from hear_models.corpus.run import embed_files
    from hear_models.datasets.demo_clips import CLIPS
    from hear_models.errors import AudioFileError
    from hear_models.zoo import load_model

    recordings = Path(__file__).parent.parent / "_demo"
    files = [recordings / f"{clip.name}.flac" for clip in CLIPS]
    model = load_model(name)
    scenes = embed_files(files, output / "scene", model, kind="scene", overwrite=True)
    steps = embed_files(files, output / "timestamps", model, kind="timestamps", overwrite=True)
    for failure in [*scenes.failed, *steps.failed]:
        raise AudioFileError(
            f"{failure.path}: {failure.error}. The recordings ship with the package: install it again."
        )

    shown_name = model.checkpoint.name if model.checkpoint else model.family
    click.echo(
        f"{shown_name}: {scenes.embedded} recordings, {scenes.audio_s:.1f} s of audio, in {scenes.seconds:.2f} s"
    )
    click.echo(f"scene embeddings [{model.scene_embedding_size}], one for each recording; timestamp embeddings:\n")
    click.echo(f"{'recording':<13} {'what one hears':<40} {'shape':>10}  times in ms")
    for clip, file in zip(CLIPS, files, strict=True):
        with np.load(output / "timestamps" / f"{file.name}.npz") as saved:
            shape, times = saved["embeddings"].shape, saved["timestamps_ms"]
        times_shown = f"{times[0]:.0f} ... {times[-1]:.0f}"
        click.echo(f"{clip.name:<13} {clip.heard:<40} {list(shape)!s:>10}  {times_shown}")

    embeddings = np.stack([np.load(output / "scene" / f"{file.name}.npz")["embeddings"] for file in files])
    click.echo("\nhow similar: 100 x cosine of the scene embeddings, their mean subtracted\n")
    click.echo(similarity_table([clip.name for clip in CLIPS], centred_cosines(embeddings)))

    click.echo(f"\nwritten: {output / 'scene' / '*.npz'} and {output / 'timestamps' / '*.npz'}")
    click.echo(f"the recordings: {recordings}")


def centred_cosines(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [clips, dim] → cosines [clips, clips] after the mean over clips is subtracted."""
    import numpy as np

    centred = embeddings - embeddings.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def similarity_table(names: list[str], cosines: np.ndarray) -> str:
    """Rows of the upper-left name and 100 x cosine with every other; below 80 columns for ten names.

    The last column names the most similar other recording.
    """
    lines = [" " * 16 + "".join(f"{i:>4}" for i in range(1, len(names) + 1)) + "   most similar"]
    for i, name in enumerate(names):
        cells = ["   ." if j == i else f"{100 * cosine:4.0f}" for j, cosine in enumerate(cosines[i])]
        nearest = max((j for j in range(len(names)) if j != i), key=lambda j: cosines[i, j])
        lines.append(f"{i + 1:>2} {name:<13}{''.join(cells)}   {names[nearest]}")
    return "\n".join(lines)
