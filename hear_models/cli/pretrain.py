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
    help="For taggers: labelled clips that are looked at, never trained on; repeatable.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Default: runs/RECIPE.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where features are kept. Default: OUTPUT/features.",
)
@click.option("--steps", type=click.IntRange(1), help="Another number of updates than the recipe's.")
@click.option("--stop-after", type=click.IntRange(1), help="Updates in this call; then save and end.")
@click.option("--init", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Begin with these weights.")
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
@click.option("--synthetic-batch", is_flag=True, help="Measure the loop alone: one batch again and again.")
def command(
    recipe: str,
    folders: tuple[Path, ...],
    validation: tuple[Path, ...],
    output: Path | None,
    cache: Path | None,
    steps: int | None,
    stop_after: int | None,
    init: Path | None,
    go_on_with_changed: tuple[str, ...],
    device: str | None,
    workers: int,
    save_every: float,
    log_every: int,
    synthetic_batch: bool,
) -> None:
    """Pretrain a model by RECIPE: the name of one that ships with the package, or a TOML file.

    The output folder gets model.safetensors (for load_model), log.jsonl and the state from which the same command goes
    on after Ctrl-C, a crash or a kill; with a validation set also best.safetensors, the weights of its best score.
    """
    from hear_models.training.recipe import read_recipe, with_steps

    chosen = with_steps(read_recipe(recipe), steps)

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
        synthetic_batch=synthetic_batch,
    )
    done = pretrain(chosen, run, report=click.echo)
    click.echo(f"{done} of {chosen.optimiser.steps} updates done; {run.output / 'model.safetensors'}")
