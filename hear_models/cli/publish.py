"""`hear-models publish`: a checkpoint and its card go to the Hugging Face Hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hear_models.zoo.publish import Publication


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="NAME_OR_FILE")
@click.argument("repository", metavar="REPO_ID")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--branch", "--revision", metavar="NAME", help="Commit to this branch; made if it is not there.")
@click.option("--licence", "--license", metavar="NAME", help="Of weights that you trained yourself; SPDX.")
@click.option(
    "--i-have-permission",
    "permission",
    metavar="TEXT",
    help="Who allowed you to publish weights without a stated licence; goes into the card.",
)
@click.option("--training", metavar="TEXT", help="How the weights were trained, for the card.")
@click.option("--message", metavar="TEXT", help="Of the commit.  [default: name and sha256]")
@click.option("--allow-untrained", is_flag=True, help="Publish a random network too; its card says so.")
@click.option("--dry-run", is_flag=True, help="Print the card and what would be sent; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    name: str,
    repository: str,
    private: bool,
    branch: str | None,
    licence: str | None,
    permission: str | None,
    training: str | None,
    message: str | None,
    allow_untrained: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish a model on the Hugging Face Hub, with a generated card.

    NAME_OR_FILE is a model of `hear-models list` whose weights are here, or a
    .safetensors file of hear-models. REPO_ID is ORG/NAME; the organisation may
    also come from HEAR_MODELS_HUB_ORG. The repository is made if it is not there;
    files that it has are replaced by a new commit only.

    The file is verified and loaded before anything is sent. Weights whose licence
    forbids copies are refused, and those without a licence unless you state one
    for your own (--licence) or have the authors' permission.

    Log in first: `hf auth login`, or set HF_TOKEN.
    """
    from hear_models.zoo.publish import as_plain_data, publish

    done = publish(
        name,
        repository,
        private=private,
        branch=branch,
        licence=licence,
        permission=permission,
        training=training,
        message=message,
        allow_untrained=allow_untrained,
        dry_run=dry_run,
    )
    if as_json:
        click.echo(json.dumps(as_plain_data(done), indent=1))
        return
    _print(done)


def _print(done: Publication) -> None:
    what = f"{done.file} ({done.local_file})\n  {done.n_bytes:,} bytes, sha256 {done.sha256}"
    if done.upload is None:
        place = f"{done.repository}, branch {done.branch or 'main'}{', private if new' if done.private else ''}"
        click.echo(f"would send to {place}, in one commit:\n{what}\nREADME.md ({len(done.card.encode()):,} bytes):\n")
        click.echo(done.card)
        click.echo(f"commit message: {done.message}\nnothing was sent (--dry-run)")
        return
    if not done.upload.changed:
        click.echo("the Hub has exactly this already; no new commit")
    elif done.upload.replaced_sha256:
        click.echo(f"replaces sha256 {done.upload.replaced_sha256}, which stays in the history")
    click.echo(f"{what}\ncommit {done.upload.commit}\n{done.upload.url}")
    click.echo(f"load it: hear_models.load_model({done.address!r})")
