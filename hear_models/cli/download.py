"""`hear-models download`: weights on this machine before they are needed, for instance before going offline."""

from __future__ import annotations

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="NAME|hf://ORG/REPO[@REVISION]")
@click.option("--force", is_flag=True, help="Fetch it again even if it is here; repairs a damaged copy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, force: bool, as_json: bool) -> None:
    """Fetch a model from the Hugging Face Hub and verify every byte of it.

    NAME is a name of `hear-models list`. REVISION is a branch, a tag or a
    commit; a commit always means the same file. The file goes into the cache of
    huggingface_hub, whose settings hold: HF_HOME or HF_HUB_CACHE (where),
    HF_TOKEN or `hf auth login` (who), HF_ENDPOINT (which Hub), HF_HUB_OFFLINE=1
    (no network). HEAR_MODELS_HUB_ORG=ORG looks for models that hear-models does
    not publish under hf://ORG/NAME.
    """
    import json
    import sys
    from dataclasses import asdict

    from hear_models.zoo.download import download

    try:
        done = download(name, force=force)
    except KeyboardInterrupt:
        click.echo(f"interrupted; `hear-models download {name}` fetches it again", err=True)
        sys.exit(130)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
        return
    click.echo(done.path)
    click.echo(f"sha256 {done.sha256}")
    click.echo(f"{done.bytes:,} bytes, {done.family}")
    if done.address:
        click.echo(f"from {done.address}, commit {done.commit}")
    else:
        click.echo("comes with the package")
    click.echo("verified against:")
    for what in done.verified:
        click.echo(f"  {what}")
    click.echo(f'load it: hear_models.load_model("{done.name}")')
