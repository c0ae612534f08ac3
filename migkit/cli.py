"""The command line: ``migkit run scenario.toml``.

Commands are thin: they read, call one function of migkit and print. Heavy imports stay inside them, so that
``migkit --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Engine(enum.StrEnum):
    """The two models of RAM."""

    expected = "expected"
    bitmap = "bitmap"


@contextlib.contextmanager
def told_in_one_sentence() -> Iterator[None]:
    """End with one sentence on stderr and exit status 2 where the user can put something right."""
    from migkit.errors import ScenarioError

    try:
        yield
    except ScenarioError as error:
        typer.echo(f"migkit: {error}", err=True)
    except OSError as error:
        typer.echo(f"migkit: {error.filename or 'a file'}: {error.strerror or error}.", err=True)
    else:
        return
    raise typer.Exit(2)


def _version(asked: bool) -> None:
    if asked:
        import migkit

        typer.echo(f"migkit {migkit.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Simulate QEMU pre-copy live migration: will it converge, and what would change the answer."""


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario in TOML.", show_default=False)],
    engine: Annotated[Engine, typer.Option(help="RAM as expected values, or page by page.")] = Engine.expected,
    seed: Annotated[int, typer.Option(help="Root seed of the random draws (bitmap engine).")] = 0,
    replicate: Annotated[int, typer.Option(help="Number of the repetition; each has its own draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
    timeline: Annotated[
        Path | None,
        typer.Option(help="Write one row per turn to this file, .parquet or .csv.", show_default=False),
    ] = None,
) -> None:
    """Simulate one migration and say how it ends."""
    with told_in_one_sentence():
        from migkit.errors import ScenarioError
        from migkit.scenario import Scenario
        from migkit.simulate import simulate

        if timeline is not None and timeline.suffix not in (".parquet", ".csv"):
            raise ScenarioError("must end in .parquet or .csv", "--timeline", str(timeline))
        migration = simulate(Scenario.from_toml(scenario), engine.value, seed, replicate)
        if timeline is not None:
            if timeline.suffix == ".csv":
                migration.timeline.to_csv(timeline, index=False)
            else:
                migration.timeline.to_parquet(timeline, index=False)
        typer.echo(json.dumps(migration.to_dict(), indent=2) if as_json else migration.summary())
