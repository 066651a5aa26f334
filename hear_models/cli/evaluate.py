"""`hear-models evaluate`: options, progress, the table of scores, and the list of what failed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from hear_models.cli.terminal import stdout_for_json, stopping_with
from hear_models.evaluation.judges.table import JUDGES
from hear_models.evaluation.runs.settings import EMBEDDINGS_DIR

if TYPE_CHECKING:
    from hear_models.evaluation.runs.summary import RunSummary

SHOWN_FAILURES = 20
STOPPED = "stopped: finished jobs are kept, the same command goes on from here"
COMPARABLE = {judge.name: judge for judge in JUDGES.values() if judge.comparable}
PROBES = {judge.name.removeprefix("probe-"): judge for judge in JUDGES.values() if not judge.comparable}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--tasks-dir", required=True, type=click.Path(), metavar="DIR", help="Folder that holds the task folders."
)
@click.option(
    "--tasks",
    "only",
    multiple=True,
    metavar="A,B",
    help="Only these: `esc50`, a folder's name, or `paper` for its ten.",
)
@click.option(
    "--protocol",
    type=click.Choice(["hear", "paper"]),
    default="hear",
    show_default=True,
    help="The leaderboard's search, or the papers' ten seeds.",
)
@click.option(
    "--judge",
    type=click.Choice(list(COMPARABLE)),
    default="builtin",
    show_default=True,
    help=f"{'; '.join(f'{name}: {judge.about}' for name, judge in COMPARABLE.items())}.",
)
@click.option("--seeds", metavar="N|A,B,C", help="How many from 0, or which.  [default: hear 42, paper 0 to 9]")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Judges at once.  [default: CPU cores]")
@click.option(
    "--results", default="results", show_default=True, type=click.Path(), metavar="DIR", help="Where the records go."
)
@click.option(
    "--embeddings-dir",
    default=EMBEDDINGS_DIR,
    show_default=True,
    type=click.Path(),
    metavar="DIR",
    help="Where the embeddings go.",
)
@click.option("--device", metavar="NAME", help="For embeddings: cpu, cuda, ...  [default: cuda if there is one]")
@click.option("--name", "names", multiple=True, metavar="NAME", help="What tables call MODEL; once for each, in order.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Option of the models, may be repeated.")
@click.option(
    "--floors/--no-floors", default=True, help="Score logmel-stats and random-projection too.  [default: floors]"
)
@click.option("--allow-untrained", is_flag=True, help="Accept models with random weights.")
@click.option("--probe", type=click.Choice(list(PROBES)), help="Quick look; NOT comparable with the leaderboard.")
@click.option("--random-labels", is_flag=True, help="Shuffle the labels first: a test that nothing leaks.")
@click.option("--overwrite", is_flag=True, help="Put records of other inputs aside and make new ones.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON summary on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    models: tuple[str, ...],
    tasks_dir: str,
    only: tuple[str, ...],
    protocol: str,
    judge: str,
    seeds: str | None,
    jobs: int | None,
    results: str,
    embeddings_dir: str,
    device: str | None,
    names: tuple[str, ...],
    settings: tuple[str, ...],
    floors: bool,
    allow_untrained: bool,
    probe: str | None,
    random_labels: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Score frozen models on the tasks in a folder.

    MODEL is a registry name, a .safetensors file, hf://ORG/REPO, or any importable module that follows the HEAR API
    (MODULE:WEIGHTS gives it a weights file).

    Two floors that learned nothing, logmel-stats and random-projection, are scored beside the models.

    Every model embeds every task; then small classifiers are trained on the embeddings, one job for each model, task
    and seed, and each job writes one record below --results. `hear-models leaderboard` makes the table.

    Run the same command again to go on where it stopped: finished jobs are kept. Records that were made with another
    model, other data or another version of the judge are refused; --overwrite puts them aside, it deletes nothing.

    Exit code 1: some jobs failed, and are listed at the end.
    """
    from hear_models.evaluation.runs.settings import FLOORS, Request, parse_only, parse_seeds

    judge_given = ctx.get_parameter_source("judge") == click.core.ParameterSource.COMMANDLINE
    protocol_given = ctx.get_parameter_source("protocol") == click.core.ParameterSource.COMMANDLINE
    if probe and (judge_given or protocol_given):
        raise click.UsageError("--probe is a quick look of its own. Leave --judge and --protocol out.")
    request = Request(
        models=models,
        floors=FLOORS if floors else (),
        tasks_dir=tasks_dir,
        only=parse_only(only),
        protocol=None if probe else protocol,
        judge=PROBES[probe].name if probe else judge,
        seeds=parse_seeds(seeds),
        jobs=jobs,
        results=results,
        embeddings_dir=embeddings_dir,
        device=device,
        settings=settings,
        names=names,
        allow_untrained=allow_untrained,
        random_labels=random_labels,
        overwrite=overwrite,
        command=("hear-models", *sys.argv[1:]),
    )
    request.check()  # before torch is loaded

    from hear_models.evaluation.runs.progress import Reporter
    from hear_models.evaluation.runs.run import evaluate
    from hear_models.evaluation.runs.summary import plan_text, table

    with stdout_for_json(as_json), stopping_with(STOPPED), Reporter() as reporter:
        summary = evaluate(request, reporter, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(summary.as_dict(), allow_nan=False))
    elif dry_run:
        click.echo(plan_text(summary))
    else:
        click.echo(table(summary))
    _report_failures(summary)
    if summary.failed:
        sys.exit(1)


def _report_failures(summary: RunSummary) -> None:
    for failure in summary.failed[:SHOWN_FAILURES]:
        click.echo(f"failed: {failure.name}: {failure.error}", err=True)
    if len(summary.failed) > SHOWN_FAILURES:
        click.echo(f"and {len(summary.failed) - SHOWN_FAILURES} more (--json lists all)", err=True)
    if summary.failed:
        click.echo(
            f"error: {summary.jobs_failed} of {summary.jobs} jobs could not be done. "
            "The same command tries them again.",
            err=True,
        )
