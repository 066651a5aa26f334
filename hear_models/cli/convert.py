"""`hear-models convert`: an official checkpoint becomes a file that every command takes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hear_models.zoo.convert import Conversion


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("family", metavar="FAMILY")
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUTPUT.safetensors", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="The trainer's config.json [default: beside INPUT].")
@click.option(
    "--set", "settings", metavar="FIELD=VALUE", multiple=True, help="A field of the configuration; repeatable."
)
@click.option("--key", metavar="NAME", help="Which network of INPUT, where it holds several: model_ema, teacher, ...")
@click.option("--report", is_flag=True, help="Print a line for every tensor.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True, help="Storage."
)
@click.option("--force", is_flag=True, help="Overwrite OUTPUT.")
@click.option(
    "--accept-license",
    "--accept-licence",
    "accept_licence",
    is_flag=True,
    help="You accept the licence of the official weights; asked for where there is one of its own.",
)
def command(
    family: str,
    source: Path,
    output: Path,
    config: Path | None,
    settings: tuple[str, ...],
    key: str | None,
    report: bool,
    as_json: bool,
    dtype: str,
    force: bool,
    accept_licence: bool,
) -> None:
    """Convert an official checkpoint of FAMILY to safetensors.

    INPUT, as the authors' code writes it: of mwmae and mae the file
    checkpoint_<step>, or the training folder that holds such files (the newest is
    taken); of families trained with PyTorch a .pth, .pt or .ckpt file, packed by
    xz or not, or a folder or release zip that holds one. The same tensors may
    come in a .safetensors file, or in shards beside their index.

    Geometry is read from the tensors. What they cannot say comes from the
    trainer's configuration, from published sizes, or from --set, for instance
    --set encoder_heads=12 --set decoder_windows=2,5,10,25,50,125,0,0

    Every tensor must be known, present and of the right shape; the result keeps
    the decoder. Nothing in INPUT is executed. The weights keep their licence.
    """
    from hear_models.fields import parse_settings
    from hear_models.zoo.convert import as_plain_data, convert

    done = convert(
        family,
        source,
        output,
        config=config,
        overrides=parse_settings(settings),
        force=force,
        dtype=dtype,
        accept_licence=accept_licence,
        key=key,
    )
    if as_json:
        click.echo(json.dumps(as_plain_data(done), indent=1))
        return
    if report:
        _print_report(done)
    click.echo(f"{done.output}: {done.family}, {done.parameters:,} parameters, {' and '.join(done.parts)}")
    click.echo(f"from {done.source['file']}, sha256 {done.source['sha256']}")
    if done.others:
        click.echo(f"other networks in it: {', '.join(done.others)}; --key takes one of them")
    if done.config_file:
        click.echo(f"with {done.config_file}")
    if done.licence:
        click.echo(f"licence: {done.licence}; it stands in the file")
    click.echo(f"load it: hear_models.load_model({done.output!r})")


def _print_report(done: Conversion) -> None:
    """A table of 80 columns would cut the keys, so: the official key, then what became of it, indented."""
    for row in done.rows:
        click.echo(row.official)
        shape = "x".join(map(str, row.shape)) or "scalar"
        click.echo(f"  {row.name}  [{shape}]  {row.dtype}, {row.operation}")
    if done.ignored:
        click.echo(textwrap.fill(f"not needed: {', '.join(done.ignored)}", 80, subsequent_indent="  "))
    for note in done.notes:
        click.echo(note)
    for name, value in done.config.items():
        click.echo(f"{name} = {_plain(value)}")


def _plain(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
