"""Every table in the documents that is made from data, made again.

    python benchmarks/tables.py            # rewrite them
    python benchmarks/tables.py --check    # exit 1 and say which if one is not what the data give

A table stands in a Markdown file between two comments; what the first one names is made by one of the functions below:

    <!-- table: published mwmae / README -->
    <!-- end of table -->
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import click

from hear_models.checkpoints.licences import FORBIDDEN, read_licence
from hear_models.evaluation.board.leaderboard import build
from hear_models.evaluation.board.published import SEPARATOR, Figure, public_best, tables
from hear_models.evaluation.board.results import gather
from hear_models.evaluation.board.tabulate import markdown
from hear_models.tasks.known_tasks import known_tasks
from hear_models.zoo.registry import list_models

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^<!-- table: (?P<what>.+?) -->\n(?P<body>.*?)^<!-- end of table -->$", re.MULTILINE | re.DOTALL)


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def published(name: str) -> str:
    """The rows of one published table, figures as printed: "TOPIC / TABLE"."""
    for table in tables():
        if f"{table.topic}{SEPARATOR}{table.name}" == name:
            decimals = table.statistic.decimals if table.statistic else None
            rows = [
                [
                    SEPARATOR.join(part for part in (row.group, row.model) if part),
                    *(printed(row.figures[column], decimals) for column in table.columns),
                ]
                for row in table.rows
            ]
            return grid(["", *table.columns], rows) + f"\nSource: {table.source}.\n"
    raise click.ClickException(f"There is no published table {name!r}.")


def printed(figure: Figure, decimals: int | None) -> str:
    """A figure with its spread, with as many decimals as the source prints; "-" where there is none."""
    if figure.value is None:
        return "-"
    value, spread = (
        "" if number is None else str(number) if decimals is None else f"{number:.{decimals}f}"
        for number in (figure.value, figure.spread)
    )
    return f"{value} ±{spread}" if spread else value


def absent(_: str) -> str:
    """The published tables that nobody here could read, and why."""
    rows = [[table.topic, table.name, table.about, table.absent] for table in tables() if table.absent]
    return grid(["topic", "table", "what", "reason"], rows).replace("---:", "---")


def tasks(_: str) -> str:
    """The 19 tasks, with the best of the public leaderboard."""
    rows = []
    for task in known_tasks().values():
        best = public_best(task.folder)
        rows.append(
            [
                f"`{task.folder}`",
                task.paper_name or "",
                task.evaluation[0],
                f"{task.n_clips:,}",
                f"{100 * best.value:.1f} ({best.model})" if best else "-",
            ]
        )
    return grid(["folder", "in the papers", "primary metric", "clips", "best public score"], rows)


WEIGHTS = {"bundled": "bundled", "parameterless": "none needed", "hub": "on the Hub"}


def models(_: str) -> str:
    """The models of the registry that have weights somewhere, in the order of `hear-models list`."""
    rows = []
    for entry in list_models():
        if entry.status == "untrained":
            continue
        arxiv = re.search(r"arXiv (\d{4}\.\d{5})", entry.manifest.paper or "")
        paper = f" ([paper](https://arxiv.org/abs/{arxiv[1]}))" if arxiv else ""
        scene, step = entry.scene_embedding_size, entry.timestamp_embedding_size
        theirs = "the authors', for evaluation only" if forbids_copies(entry.licence) else "the authors': `fetch`"
        rows.append(
            [
                f"`{entry.name}`",
                f"`{entry.family}`",
                entry.summary + paper,
                str(scene) if scene == step else f"{scene}, steps {step}",
                f"{entry.sample_rate / 1000:g} kHz",
                WEIGHTS.get(entry.status, theirs),
            ]
        )
    return grid(["name", "module", "what it is", "dimensions", "audio", "weights"], rows).replace("---:", "---")


def forbids_copies(licence: str) -> bool:
    """Whether a licence, as a manifest words it, forbids to pass copies on."""
    return read_licence(licence).sharing == FORBIDDEN


def leaderboard(folder: str) -> str:
    """`hear-models leaderboard FOLDER --format markdown`, the folder relative to the repository."""
    return markdown(build(gather([ROOT / folder]))).replace("### ", "**", 1).replace("\n", "**\n", 1)


MAKERS: dict[str, Callable[[str], str]] = {
    "published": published,
    "absent": absent,
    "tasks": tasks,
    "leaderboard": leaderboard,
    "models": models,
}


def made(what: str) -> str:
    """What stands between the comments that name `what`: a maker, and after a space its argument."""
    maker, _, argument = what.partition(" ")
    if maker not in MAKERS:
        raise click.ClickException(f"Nothing makes the table {what!r}. There are: {', '.join(MAKERS)}.")
    return "\n" + MAKERS[maker](argument).strip("\n") + "\n\n"


def remade(text: str) -> str:
    """A document with every marked table made again."""
    return BLOCK.sub(lambda match: f"<!-- table: {match['what']} -->\n{made(match['what'])}<!-- end of table -->", text)


def stale(document: Path) -> list[str]:
    """The differences, as lines, between a document and what the data give; none if it is up to date."""
    text = document.read_text(encoding="utf-8")
    names = (f"{document.name} as it is", f"{document.name} from the data")
    return list(difflib.unified_diff(text.splitlines(), remade(text).splitlines(), *names, n=0, lineterm=""))


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; say what is not up to date.")
def main(check: bool) -> None:
    behind = False
    for document in DOCUMENTS:
        difference = stale(document)
        if not difference:
            continue
        behind = True
        if check:
            click.echo("\n".join(difference))
        else:
            document.write_text(remade(document.read_text(encoding="utf-8")), encoding="utf-8")
            click.echo(f"{document.relative_to(ROOT)}: tables made again")
    if check and behind:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
