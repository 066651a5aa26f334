"""`hear-models pretrain`: run a recipe."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="pretrain", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recipe")
@click.option(
    "--data",
    "folders",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of recordings; for taggers CLASS/a.wav, a .csv, ... (docs/tagging.md). Repeatable.",
)
@click.option(
    "--validation",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Recordings that are looked at, never trained on (labelled for taggers); repeatable.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Default: runs/RECIPE.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where features are kept. Default: OUTPUT/features.",
)
@click.option("--steps", type=click.IntRange(1), help="Another number of updates than the recipe's.")
@click.option("--batch", type=click.IntRange(1), help="Another number of crops an update; the rate follows.")
@click.option("--stop-after", type=click.IntRange(1), help="Updates in this call; then save and end.")
@click.option("--init", metavar="MODEL", help="Begin with the weights of this name or .safetensors file.")
@click.option(
    "--go-on-with-changed",
    type=click.Choice(["optimiser"]),
    multiple=True,
    help="Resume although this table of the recipe is another one.",
)
@click.option("--device", help="cpu, cuda, cuda:1 ... Default: cuda if there is one.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Threads that read audio.")
@click.option("--save-every", type=click.FloatRange(1), default=300, show_default=True, help="Seconds between saves.")
@click.option("--log-every", type=click.IntRange(1), default=50, show_default=True, help="Updates between log lines.")
@click.option("--curves", is_flag=True, help="At the end draw OUTPUT/curves.png, with its numbers as curves.csv.")
@click.option("--tensorboard", is_flag=True, help="Write OUTPUT/tensorboard for TensorBoard, if that is installed.")
@click.option("--synthetic-batch", is_flag=True, help="Measure the loop alone: one batch again and again.")
def command(
    recipe: str,
    folders: tuple[Path, ...],
    validation: tuple[Path, ...],
    output: Path | None,
    cache: Path | None,
    steps: int | None,
    batch: int | None,
    stop_after: int | None,
    init: str | None,
    go_on_with_changed: tuple[str, ...],
    device: str | None,
    workers: int,
    save_every: float,
    log_every: int,
    curves: bool,
    tensorboard: bool,
    synthetic_batch: bool,
) -> None:
    """Pretrain a model by RECIPE: the name of one that ships with the package, a TOML file, or the name of a model
    (`hear-models list --all`), whose sizes are then trained as its authors did.

    The output folder gets model.safetensors (for load_model), log.jsonl and the state from which the same command goes
    on after Ctrl-C, a crash or a kill; with a validation set also best.safetensors, the weights of its best score.
    A finished run goes on with more --steps and --go-on-with-changed optimiser.
    """
    from hear_models.training.recipe import read_recipe, with_batch, with_steps

    chosen = with_batch(with_steps(read_recipe(recipe), steps), batch)

    import torch

    from hear_models.training.loop import pretrain
    from hear_models.training.run import Run

    run = Run(
        output=output or Path("runs") / Path(recipe).stem,
        folders=folders,
        validation=validation,
        cache=cache,
        init=init,
        go_on_with_changed=go_on_with_changed,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        workers=workers,
        save_every_s=save_every,
        log_every=log_every,
        stop_after=stop_after,
        curves=curves,
        tensorboard=tensorboard,
        synthetic_batch=synthetic_batch,
    )
    done = pretrain(chosen, run, report=click.echo)
    click.echo(f"{done} of {chosen.optimiser.steps} updates done; {run.output / 'model.safetensors'}")
