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
    """End with one sentence on stderr: exit status 2 where the user can put something right, 1 for what ended early."""
    from migkit.scenario.errors import ScenarioError, Unfinished

    try:
        yield
    except ScenarioError as error:
        typer.echo(f"migkit: {error}", err=True)
    except Unfinished as error:
        typer.echo(f"migkit: {error}", err=True)
        raise typer.Exit(1) from None
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
        from migkit.run.simulate import simulate
        from migkit.scenario.errors import ScenarioError
        from migkit.scenario.scenario import Scenario

        if timeline is not None and timeline.suffix not in (".parquet", ".csv"):
            raise ScenarioError("must end in .parquet or .csv", "--timeline", str(timeline))
        migration = simulate(Scenario.from_toml(scenario), engine.value, seed, replicate)
        if timeline is not None:
            if timeline.suffix == ".csv":
                migration.timeline.to_csv(timeline, index=False)
            else:
                migration.timeline.to_parquet(timeline, index=False)
        typer.echo(json.dumps(migration.to_dict(), indent=2) if as_json else migration.summary())


@app.command()
def sweep(
    description: Annotated[Path, typer.Argument(help="Description of the sweep in TOML.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Zarr store; by default the description's name with .zarr.",
                     show_default=False),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Compute on the cluster of this scheduler.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; by default all.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per migration.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Simulate every migration of a description into a store; go on with what is missing."""
    with told_in_one_sentence(), _told_what_is_kept():
        import sys

        from migkit.run.design import Sweep
        from migkit.run.export import write_json_lines
        from migkit.run.many import sweep as fill

        described = Sweep.from_toml(description)
        output = output or Path(description.with_suffix(".zarr").name)
        dataset = fill(described, store=output, dask=dask, threads=threads, progress=not quiet)
        if as_json:
            write_json_lines(dataset, sys.stdout)
        else:
            typer.echo(_counted(dataset, output))


def _counted(dataset, output: Path) -> str:
    """How many migrations ended how, and where they are."""
    import numpy as np

    from migkit.results import Outcome

    outcomes = dataset["outcome"].values
    counts = {outcome.label: int((outcomes == outcome).sum()) for outcome in Outcome}
    lines = [f"{outcomes.size} migrations are in {output}:"]
    lines += [f"  {count:>10}  {label}" for label, count in counts.items() if count]
    seconds = np.round(dataset.attrs["seconds"], 1)
    return "\n".join([*lines, f"Computed in {seconds} s; migkit.open_sweep({str(output)!r}) opens them."])


@app.command()
def export(
    store: Annotated[Path, typer.Argument(help="Zarr store of a sweep.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File: .parquet, .csv, .jsonl or .nc.",
                                         show_default=False)],
    devices: Annotated[bool, typer.Option(help="One row per migration and device.")] = False,
) -> None:
    """Write the results of a sweep as a table or as netCDF."""
    with told_in_one_sentence():
        from migkit.run.export import export as write

        typer.echo(str(write(store, output, devices)))


@app.command()
def validate(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write report, tables and figure here.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--run", help="Only this measured run, number by number.", show_default=False)
    ] = None,
    engine: Annotated[Engine, typer.Option(help="RAM as expected values, or page by page.")] = Engine.expected,
) -> None:
    """Predict every measured migration of real QEMU and print predicted beside measured."""
    with told_in_one_sentence():
        from migkit.qemu import report
        from migkit.qemu.validation import by_configuration, device_times, predictions
        from migkit.scenario.errors import ScenarioError

        try:
            table = predictions(engine=engine.value)
        except FileNotFoundError as error:
            raise ScenarioError(str(error)) from None
        if name is not None and name not in table.index:
            raise ScenarioError("is not a measured run: migkit.qemu.runs().index has their names", "--run", name)
        typer.echo(report.summary(table) if name is None else report.run_text(table.loc[name], device_times()))
        if output is not None:
            report.write(table, output)
            from migkit.study.atlas import write_validation

            configurations = by_configuration(table)
            configurations.attrs["engine"] = engine.value
            write_validation(configurations, output)


@app.command()
def study(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results and figures.")] = Path("study"),
    points: Annotated[int, typer.Option(help="Points on each axis of a plane; the published maps have 110.")] = 110,
) -> None:
    """Run the study: where serialized and unserialized iteration converge, and the maps of it."""
    with told_in_one_sentence(), _interruptible(output):
        from migkit.scenario.errors import ScenarioError
        from migkit.study import atlas, experiments
        from migkit.study.findings import report

        if not 2 <= points <= 2000:
            raise ScenarioError("must be from 2 to 2000", "--points", points)
        datasets = {}
        for experiment in experiments.experiments(points).values():
            typer.echo(experiment.question, err=True)
            datasets[experiment.name] = experiments.run(experiment, progress=True, folder=output)
            experiments.store(datasets[experiment.name], output)
        written = atlas.write_all(datasets, output)
        typer.echo(report(datasets))
        typer.echo(f"Results and figures are in {output}: {', '.join(sorted({path.stem for path in written}))}.")


@app.command()
def figures(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures.")] = Path("figures"),
    results: Annotated[Path, typer.Option(help="Folder of the results; what is missing is computed.")] = Path("study"),
) -> None:
    """Write all figures as PDF, SVG and PNG; what is not in the folder of results yet is computed first."""
    with told_in_one_sentence(), _interruptible(results):
        from migkit.qemu.validation import by_configuration, predictions
        from migkit.scenario.errors import ScenarioError
        from migkit.study import atlas, experiments

        wanted = experiments.experiments() | experiments.further_experiments()
        datasets = {}
        for experiment in wanted.values():
            datasets[experiment.name] = experiments.result(experiment, results, progress=True)
        try:
            measured = by_configuration(predictions())
        except FileNotFoundError as error:
            raise ScenarioError(str(error)) from None
        for path in atlas.write_all(datasets, output, measured):
            typer.echo(str(path))


@contextlib.contextmanager
def _told_what_is_kept() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", [])
        typer.echo(f"migkit: interrupted; {notes[0] if notes else 'nothing was begun'}.", err=True)
        raise typer.Exit(130) from None


@contextlib.contextmanager
def _interruptible(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"migkit: interrupted; what was finished is in {output}.", err=True)
        raise typer.Exit(130) from None
