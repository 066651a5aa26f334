"""`hear-models check`: re-read what was written, against its digests."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--all", "show_all", is_flag=True, help="Name what is whole, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(paths: tuple[Path, ...], show_all: bool, as_json: bool) -> None:
    """Re-read what hear-models wrote at PATHS and below, and say what was damaged since.

    Embeddings and tables of `embed`, records and embeddings of `evaluate`, states, features and models of `pretrain`,
    checkpoints. Every byte is compared with a digest that was written with it. Nothing is changed.

    Exit code 1: something is damaged; each line says how to make it again.
    """
    import json
    from collections import Counter

    from hear_models.files import shown
    from hear_models.rereading.check import check

    counts: Counter[str] = Counter()
    damaged = 0
    listed = []
    for one in check(paths):
        counts[one.kind] += 1
        if as_json:
            listed.append({"path": str(one.path), "kind": one.kind, "problem": one.problem, "remedy": one.remedy})
            damaged += one.problem is not None
        elif one.problem is not None:
            damaged += 1
            click.echo(f"damaged: {shown(one.path)} ({one.kind}): {one.problem.rstrip('.')}. {one.remedy}")
        elif show_all:
            click.echo(f"whole: {shown(one.path)} ({one.kind})")
    if as_json:
        shown_files = [row for row in listed if show_all or row["problem"] is not None]
        click.echo(json.dumps({"checked": sum(counts.values()), "damaged": damaged, "files": shown_files}, indent=1))
        sys.exit(1 if damaged else 0)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    click.echo(f"{sum(counts.values())} checked ({kinds}), {damaged} damaged")
    if damaged:
        sys.exit(1)
