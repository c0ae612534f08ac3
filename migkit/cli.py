"""The command line: ``migkit run scenario.toml``.

A command reads its arguments, calls one function of migkit and prints. Heavy imports are inside the commands, so that
``migkit --help`` is fast. Errors are reported on one line of standard error. The exit status is 2 for invalid input, 1
for an aborted run and 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import xarray as xr

    from migkit.run.simulate import SimulatedMigration

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Engine(enum.StrEnum):
    """The two models of RAM."""

    expected = "expected"
    bitmap = "bitmap"


@contextlib.contextmanager
def errors_on_one_line(kept: str = "nothing was written") -> Iterator[None]:
    """Report an error on one line of standard error and exit.

    Parameters
    ----------
    kept : str
        What an interrupted command leaves, unless the interrupt has a note that says so.
    """
    try:
        from migkit.scenario.errors import ScenarioError, Unfinished

        yield
        sys.stdout.flush()
        return
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", [])
        text, status = f"interrupted; {notes[0] if notes else kept}.", 130
    except ScenarioError as error:
        text, status = str(error), 2
    except Unfinished as error:
        text, status = str(error), 1
    except BrokenPipeError:
        raise  # the reader has closed the pipe: typer exits without a message
    except OSError as error:
        from migkit.results import legible

        text, status = f"{legible(str(error.filename or 'standard output'), 200)}: {error.strerror or error}.", 1
        _discard_standard_output()
    typer.echo(f"migkit: {text}", err=True)
    raise typer.Exit(status)


def _discard_standard_output() -> None:
    """If standard output cannot be written, keep Python from trying it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _top_level_keys(path: Path) -> set[str]:
    """Keys of a TOML file; none if it cannot be read, which is reported where it is used."""
    import tomllib

    if not path.is_file():  # a pipe can be read only once
        return set()
    try:
        return set(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError):
        return set()


def _version(wanted: bool) -> None:
    if wanted:
        import migkit

        typer.echo(f"migkit {migkit.__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log compilation, resumed stores and skipped batches.")
    ] = False,
) -> None:
    """Simulate QEMU pre-copy live migration: will it converge, and what would change the answer."""
    if verbose:
        import logging

        logger, handler = logging.getLogger("migkit"), logging.StreamHandler()
        handler.setFormatter(logging.Formatter("migkit: %(message)s"))
        context.call_on_close(functools.partial(logger.setLevel, logger.level))
        context.call_on_close(functools.partial(logger.removeHandler, handler))
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario in TOML.", show_default=False)],
    engine: Annotated[Engine, typer.Option(help="RAM as expected values, or page by page.")] = Engine.expected,
    seed: Annotated[int, typer.Option(help="Root seed of the random draws (bitmap engine).")] = 0,
    replicate: Annotated[int, typer.Option(help="Number of the repetition; each has its own draws.")] = 0,
    limit: Annotated[str, typer.Option(help="Computing that the migration may take.")] = "20 s",
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
    timeline: Annotated[
        Path | None,
        typer.Option(help="Write one row per iteration to this file, .parquet or .csv.", show_default=False),
    ] = None,
) -> None:
    """Simulate one migration and print how it ends."""
    with errors_on_one_line():
        from migkit.run.simulate import simulate
        from migkit.scenario.errors import ScenarioError
        from migkit.scenario.scenario import Scenario

        if timeline is not None and timeline.suffix not in (".parquet", ".csv"):
            raise ScenarioError("must end in .parquet or .csv", "--timeline", str(timeline))
        if {"axes", "scenario"} & _top_level_keys(scenario):
            raise ScenarioError("describes a sweep: use migkit sweep", value=str(scenario))
        migration = simulate(Scenario.from_toml(scenario), engine.value, seed, replicate, limit)
        if timeline is not None:
            _write_timeline(migration, timeline)
        remedies = None
        if not migration.converged:
            from migkit.analysis.remedy import remedy

            remedies = remedy(migration.scenario, engine.value, seed, replicate, limit)
        if as_json:
            table = migration.to_dict() | {"remedy": None if remedies is None else remedies.to_dict()}
            typer.echo(json.dumps(table, indent=2))
        else:
            typer.echo(migration.summary())
            if remedies is not None:
                typer.echo(f"\n{remedies.summary()}")


def _write_timeline(migration: SimulatedMigration, path: Path) -> None:
    from migkit.run.export import without_formulas
    from migkit.run.whole_file import whole_file

    with whole_file(path) as file:
        if path.suffix == ".csv":
            without_formulas(migration.timeline.round({"time_s": 9})).to_csv(file, index=False)
        else:
            migration.timeline.to_parquet(file, index=False)


@app.command()
def fields(
    word: Annotated[
        str, typer.Argument(help="In the path of a field or the name of its part.", show_default=False)
    ] = "",
) -> None:
    """List the fields of a scenario: path, unit, default, range; with a word, what they mean."""
    with errors_on_one_line():
        from migkit.scenario.catalogue import listing

        typer.echo(listing(word))


@app.command()
def sweep(
    description: Annotated[Path, typer.Argument(help="Description of the sweep in TOML.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Zarr store; by default the description's name with .zarr.", show_default=False
        ),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Compute on the cluster of this scheduler.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; by default all.", show_default=False)] = None,
    limit: Annotated[str, typer.Option(help="Computing that one migration may take.")] = "20 s",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per migration.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Simulate every migration of a description into a store; compute only what is missing in it."""
    with errors_on_one_line("what was finished is kept"):
        from migkit.run.design import Sweep
        from migkit.run.export import write_json_lines
        from migkit.run.many import sweep as fill
        from migkit.scenario.errors import ScenarioError

        keys = _top_level_keys(description)
        if "guest" in keys and "scenario" not in keys:
            raise ScenarioError("describes one migration: use migkit run", value=str(description))
        described = Sweep.from_toml(description)
        output = output or Path(description.with_suffix(".zarr").name)
        dataset = fill(described, store=output, dask=dask, threads=threads, progress=not quiet, limit=limit)
        if as_json:
            write_json_lines(dataset, sys.stdout)
        else:
            typer.echo(_counts(dataset, output))


def _counts(dataset: xr.Dataset, output: Path) -> str:
    """How many migrations ended in which way, and where the results are."""
    import numpy as np

    from migkit.results import Outcome, legible

    outcomes = dataset["outcome"].values
    counts = {outcome.label: int((outcomes == outcome).sum()) for outcome in Outcome}
    lines = [f"{outcomes.size} migrations are in {legible(str(output), 5000)}:"]
    lines += [f"  {count:>10}  {label}" for label, count in counts.items() if count]
    seconds = f"in {np.round(dataset.attrs['seconds'], 1)} s"
    new = dataset.attrs["migrations_computed"]
    said = f"Computed {seconds}" if new else f"Nothing was computed: they are from before, computed {seconds}"
    return "\n".join([*lines, f"{said}; migkit.open_sweep({str(output)!r}) opens them."])


@app.command()
def export(
    store: Annotated[Path, typer.Argument(help="Zarr store of a sweep.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File: .parquet, .csv, .jsonl or .nc.", show_default=False)
    ],
    devices: Annotated[bool, typer.Option(help="One row per migration and device.")] = False,
) -> None:
    """Write the results of a sweep as a table or as netCDF."""
    with errors_on_one_line():
        from migkit.results import legible
        from migkit.run.export import export as write
        from migkit.run.store import open_sweep

        typer.echo(legible(str(write(store, output, devices)), 5000))
        dataset = open_sweep(store)
        if missing := int(dataset.attrs.get("migrations_missing", 0)):
            typer.echo(f"migkit: {missing} of {dataset['outcome'].size} migrations are not computed yet: their results "
                       "are empty.", err=True)  # fmt: skip


@app.command()
def read(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Log of QMP, text of info migrate, or of virsh domjobinfo; - is standard input.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--run", help="Name of the run in a folder of recorded runs.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per answer, in SI units.")] = False,
) -> None:
    """Print what QEMU or libvirt said of a migration or a dirty rate."""
    with errors_on_one_line():
        from migkit.qemu.answers import read as read_answers

        answers = read_answers("/dev/stdin" if source == "-" else source, name)
        if as_json:
            for row in answers.table.to_dict("records"):
                said = {key: value for key, value in row.items() if value is not None and value == value}
                typer.echo(json.dumps(said))
        else:
            typer.echo(answers.summary())


@app.command()
def record(
    output: Annotated[Path, typer.Argument(help="Folder for the runs.")] = Path("recorded"),
    ram: Annotated[str, typer.Option(help="RAM of the guest, 64 MiB to 3 GiB; two guests run.")] = "512 MiB",
    region: Annotated[
        list[str] | None,
        typer.Option(
            help='What the guest writes: "size=128MiB,rate=200MB/s,pattern=uniform,start=2MiB,delay=0"; rate=max is a '
            "tight loop. At most 8.",
            show_default=False,
        ),
    ] = None,
    zero_share: Annotated[float, typer.Option(help="Share of pages that stay zero until they are written.")] = 0.0,
    accel: Annotated[str, typer.Option(help="tcg or kvm.")] = "tcg",
    dirty_ring_size: Annotated[int, typer.Option(help="Entries of KVM's dirty ring; 0: a dirty log.")] = 0,
    backing: Annotated[str, typer.Option(help="Huge pages behind RAM, such as 2MiB; 0: pages of 4 KiB.")] = "0",
    max_bandwidth: Annotated[str, typer.Option(help="0: no limit.")] = "128 MiB/s",
    downtime_limit: Annotated[str, typer.Option(help="In whole milliseconds.")] = "300 ms",
    link: Annotated[str, typer.Option(help="Pace of a relay between the two; 0: loopback alone.")] = "0",
    capability: Annotated[
        list[str] | None, typer.Option(help="Such as auto-converge, multifd, postcopy-ram.", show_default=False)
    ] = None,
    multifd_channels: Annotated[int, typer.Option(help="With the capability multifd.")] = 2,
    postcopy_at: Annotated[
        str | None, typer.Option(help="When post-copy starts, such as 3s.", show_default=False)
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--set", help='Further parameter: "cpu-throttle-initial=40".', show_default=False),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(help='Set while it runs: "2 s: max-bandwidth = 64 MiB/s".', show_default=False),
    ] = None,
    time_limit: Annotated[str, typer.Option(help="When a migration is cancelled.")] = "30 s",
    port: Annotated[int | None, typer.Option(help="TCP port of the destination.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help='Such as "initial=64MiB,stop=1MiB".', show_default=False)] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Record the trace points of the loop too.")] = False,
    repeats: Annotated[int, typer.Option(help="Runs.")] = 1,
    name: Annotated[
        str | None, typer.Option(help="Name of the configuration; made from it by default.", show_default=False)
    ] = None,
    qemu: Annotated[
        str | None, typer.Option(help="Program, or a command that ends with it.", show_default=False)
    ] = None,
    qemu_root: Annotated[
        Path | None, typer.Option(help="Folder with unpacked packages of Debian's QEMU.", show_default=False)
    ] = None,
) -> None:
    """Migrate a small guest between two real QEMUs on this machine and record what they say."""
    with errors_on_one_line():
        from migkit.qemu.record import record as record_runs
        from migkit.qemu.words import fields, named

        record_runs(
            output,
            repeats=repeats,
            name=name,
            qemu=qemu,
            qemu_root=qemu_root,
            progress=typer.echo,
            ram=ram,
            regions=[fields(text, "--region") for text in region or []],
            zero_share=zero_share,
            accel=accel,
            dirty_ring_size=dirty_ring_size,
            backing=backing,
            max_bandwidth=max_bandwidth,
            downtime_limit=downtime_limit,
            link=link,
            capabilities=capability or [],
            multifd_channels=multifd_channels,
            postcopy_at=postcopy_at,
            parameters=named(parameter or [], "--set"),
            changes=change or [],
            time_limit=time_limit,
            port=port,
            device=device,
            trace=trace,
        )


@app.command()
def claim(
    output: Annotated[Path, typer.Argument(help="Folder for the runs and the figure.")] = Path("claim"),
    qemu: Annotated[
        list[str] | None,
        typer.Option(help="Program, or a command that ends with it; one for each version.", show_default=False),
    ] = None,
    qemu_root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with unpacked packages of Debian's QEMU; one for each version.", show_default=False),
    ] = None,
) -> None:
    """Show on this machine that stock QEMU 7.2 starves a device behind RAM and 10.0 serves it."""
    with errors_on_one_line("runs that were recorded are kept"):
        from migkit.qemu.binary import installed
        from migkit.qemu.claim import claim as record_claim
        from migkit.qemu.claim import text
        from migkit.study.atlas import write_claim

        found = record_claim(output, installed(qemu or (), qemu_root or (), typer.echo), typer.echo)
        written = write_claim(found, output)
        typer.echo(f"\n{text(found)}")
        typer.echo(f"Figure: {', '.join(str(path) for path in written[:3])}.")
        shown = found.shown
    raise typer.Exit(0 if shown else 1)


@app.command()
def predict(
    qmp: Annotated[Path, typer.Option(help="QMP socket of the running QEMU.", show_default=False)],
    link: Annotated[str, typer.Option(help='Network to the destination, such as "10 Gbit/s".', show_default=False)],
    costs: Annotated[
        Path | None, typer.Option(help="Costs of the host, as migkit calibrate writes them.", show_default=False)
    ] = None,
    calc_time: Annotated[
        list[str] | None,
        typer.Option(help="Window of a dirty rate, such as 500ms; several times.", show_default=False),
    ] = None,
    zero_share: Annotated[
        float | None, typer.Option(help="Share of zero memory; by default what was never touched.", show_default=False)
    ] = None,
    dirty_ring_size: Annotated[
        int | None, typer.Option(help="Entries of KVM's dirty ring; else as /proc tells.")
    ] = None,
    xbzrle_page: Annotated[str | None, typer.Option(help="What XBZRLE makes of a page, such as 300B.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile of a QEMU whose version is not known.", show_default=False)
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of what the guest writes, 20 to 1000.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the scenario in the middle here, in TOML.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not say what is being measured.")] = False,
) -> None:
    """Predict the migration of a running guest, which is only asked and not changed, and what would let it converge."""
    with errors_on_one_line():
        from migkit.analysis.forecast import predict_running
        from migkit.run.progress import announce_compilation
        from migkit.run.simulate import numba_threads
        from migkit.run.whole_file import whole_file

        numba_threads()
        announce_compilation()
        answer = predict_running(
            qmp,
            link,
            costs=costs,
            calc_times=calc_time,
            zero_share=zero_share,
            dirty_ring_size=dirty_ring_size,
            xbzrle_page=xbzrle_page,
            qemu=profile,
            draws=draws,
            seed=seed,
            progress=None if quiet else lambda sentence: typer.echo(f"migkit: {sentence}", err=True),
        )
        if output is not None:
            with whole_file(output) as file:
                file.write(answer.scenario.to_toml().encode())
        typer.echo(json.dumps(answer.to_dict(), indent=2) if as_json else answer.summary())


@app.command()
def validate(
    runs: Annotated[
        Path | None,
        typer.Argument(help="Folder of recorded runs; by default those of the project.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write report, tables and figure here.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--run", help="Only this measured run, number by number.", show_default=False)
    ] = None,
    engine: Annotated[Engine, typer.Option(help="RAM as expected values, or page by page.")] = Engine.expected,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Record a matrix of runs on this machine first, into RUNS or validation-runs; what is there is kept.",
        ),
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="With --record: a few runs of the matrix.")] = False,
    repeats: Annotated[int, typer.Option(help="With --record: runs of each configuration.")] = 1,
    qemu: Annotated[
        list[str] | None,
        typer.Option(
            help="With --record: program, or a command that ends with it; one for each version.", show_default=False
        ),
    ] = None,
    qemu_root: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --record: folder with unpacked packages of Debian's QEMU; one for each version.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Predict measured migrations of real QEMU, or record some here, and print predicted beside measured."""
    with errors_on_one_line("what was finished is kept"):
        from migkit.run.progress import announce_compilation
        from migkit.run.simulate import numba_threads

        numba_threads()
        announce_compilation()

        from migkit.qemu import report
        from migkit.qemu.binary import installed
        from migkit.qemu.matrix import record_matrix
        from migkit.qemu.traces import runs as measured
        from migkit.qemu.validation import by_configuration, device_times, predictions
        from migkit.scenario.errors import ScenarioError

        if record:
            runs = runs or Path("validation-runs")
            record_matrix(runs, installed(qemu or (), qemu_root or (), typer.echo), short, repeats, typer.echo)
        elif short or repeats != 1 or qemu or qemu_root:
            raise ScenarioError("is needed by --short, --repeats, --qemu and --qemu-root", "--record")
        try:
            if name is not None and name not in measured(runs).index:
                raise ScenarioError("is not a measured run: migkit.qemu.runs().index has their names", "--run", name)
            table = predictions(runs, engine=engine.value)
        except FileNotFoundError as error:
            raise ScenarioError(str(error)) from None
        if name is not None:
            typer.echo(report.run_text(table.loc[name], device_times(runs)))
        else:
            typer.echo(report.summary(table) if runs is None else report.of_recorded(table, runs))
        if output is not None:
            report.write(table, output, runs)
            from migkit.study.atlas import write_validation

            configurations = by_configuration(table)
            configurations.attrs["engine"] = engine.value
            write_validation(configurations, output)


@app.command()
def calibrate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUNS | FILE...]",
            help="Folder of measured runs, by default those of the project; or files that migkit read reads.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the costs of the host here, in TOML.", show_default=False),
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="Only the runs of this campaign.", show_default=False)] = None,
    accel: Annotated[
        str | None, typer.Option(help="Only runs under tcg, or kvm; of files, what ran the guest.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What results call the costs; by default the file.", show_default=False)
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="Of files: write the fitted scenario here, in TOML.", show_default=False)
    ] = None,
    ram: Annotated[str | None, typer.Option(help="Of files: RAM, where they do not say.", show_default=False)] = None,
    link: Annotated[str | None, typer.Option(help="Of files: the network, if known.", show_default=False)] = None,
    profile: Annotated[
        str | None, typer.Option(help="Of files: profile, where they name no version.", show_default=False)
    ] = None,
) -> None:
    """Fit the costs of a host, or a scenario, to what was measured, and say what that cannot tell."""
    with errors_on_one_line():
        from migkit.run.progress import announce_compilation
        from migkit.run.simulate import numba_threads
        from migkit.run.whole_file import whole_file
        from migkit.scenario.errors import ScenarioError

        numba_threads()
        announce_compilation()
        given = runs or []
        files = [path for path in given if not (path.is_dir() or path.name == "runs.parquet")]
        of_files = {"--scenario": scenario, "--ram": ram, "--link": link, "--profile": profile}
        refused = {"--campaign": campaign} if files else of_files
        for option, value in refused.items():
            if value is not None:
                kind = "is for a folder of measured runs only" if files else "is for files that migkit read reads only"
                raise ScenarioError(kind, option, str(value))
        if len(given) > 1 and len(files) < len(given):
            raise ScenarioError("is given with others: give one folder of measured runs, or files", "RUNS",
                                str(next(path for path in given if path not in files)))  # fmt: skip
        costs_name = name if name is not None else output.name if output else ""
        if files:
            from migkit import qemu

            fitted = qemu.calibrate_log([qemu.read(path) for path in files], ram=ram, link=link,
                                        accel=accel or "kvm", qemu=profile, name=costs_name)  # fmt: skip
            if scenario is not None:
                with whole_file(scenario) as file:
                    file.write(fitted.scenario_toml().encode())
            toml, texts = fitted.to_toml(), [fitted.summary()]
        else:
            toml, texts = _calibrated_runs(given[0] if given else None, campaign, accel, costs_name)
        if output is not None:
            with whole_file(output) as file:
                file.write(toml.encode())
        for text in texts:
            typer.echo(text)


def _calibrated_runs(folder: Path | None, campaign: str | None, accel: str | None, name: str) -> tuple[str, list[str]]:
    """The costs of a host from measured runs, as TOML and as text."""
    from migkit import qemu
    from migkit.qemu.validation import fit_text
    from migkit.scenario.errors import ScenarioError

    try:
        measured = qemu.runs(folder)
    except FileNotFoundError as error:
        raise ScenarioError(str(error)) from None
    campaigns = sorted(measured["campaign"].unique())
    if campaign is None and len(campaigns) > 1:
        raise ScenarioError(f"is missing: the runs have the campaigns {', '.join(campaigns)}, of one host each",
                            "--campaign")  # fmt: skip
    for option, column, wanted in (("--campaign", "campaign", campaign), ("--accel", "accel", accel)):
        if wanted is not None:
            if wanted not in set(measured[column]):
                raise ScenarioError(f"is not one of {', '.join(sorted(set(measured[column])))}", option, wanted)
            measured = measured[measured[column] == wanted]
    found = qemu.calibrate(measured, folder, name)
    return found.to_toml(), [found.summary(), fit_text(found, folder)]


@app.command()
def study(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results and figures.")] = Path("study"),
    points: Annotated[int, typer.Option(help="Points on each axis of a plane; the published maps have 110.")] = 110,
) -> None:
    """Run the study: where serialized and unserialized iteration converge, and the maps of it."""
    with errors_on_one_line(f"what was finished is in {output}"):
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
def fleet(
    described: Annotated[Path, typer.Argument(help="Link and migrations in TOML.", show_default=False)],
    parallel: Annotated[
        list[int] | None, typer.Option(help="Migrations at once; several numbers are compared.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the figure here.", show_default=False)
    ] = None,
) -> None:
    """Simulate migrations that share one link, such as a host that is drained."""
    with errors_on_one_line():
        import migkit
        from migkit.analysis.fleet import how_many, read_fleet

        given = read_fleet(described)
        if parallel:
            given.pop("parallel", None)
        if parallel and len(parallel) > 1:
            compared = how_many(given.pop("migrations"), given.pop("link"), parallel, **given)
            typer.echo(compared.round(3).to_markdown())
            return
        found = migkit.fleet(**given | ({"parallel": parallel[0]} if parallel else {}))
        if output is not None:
            migkit.plot.save(found.plot(), output)
        typer.echo(f"{found.sentence}\n\n{found.table.round(3).to_markdown()}")


@app.command()
def advise(
    scenario: Annotated[Path, typer.Argument(help="Scenario in TOML.", show_default=False)],
    downtime: Annotated[
        str | None, typer.Option(help="Most downtime; by default the scenario's downtime-limit.", show_default=False)
    ] = None,
    completion: Annotated[
        str | None, typer.Option(help="Most total time; by default the scenario's time_limit.", show_default=False)
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Option(help="Settings for qemu, libvirt, kubevirt, nova, ovirt or proxmox.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say which settings make a migration converge within a downtime and a completion time."""
    with errors_on_one_line():
        from migkit.analysis.advise import advise as ask
        from migkit.analysis.layers import checked_dialect
        from migkit.scenario.scenario import Scenario

        dialects = [checked_dialect(each) for each in words or ()]
        answer = ask(Scenario.from_toml(scenario), downtime, completion)
        told = {each: answer.commands(each) for each in dialects if answer.recommended is not None}
        if as_json:
            texts = {each: {"text": found.text, "notes": list(found.cannot)} for each, found in told.items()}
            typer.echo(json.dumps(answer.to_dict() | {"words": texts}, indent=2))
        else:
            typer.echo("\n\n".join([answer.summary(), *(found.summary() for found in told.values())]))


@app.command()
def lab(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the table, the figures and what was computed.")
    ] = Path("lab"),
    points: Annotated[int, typer.Option(help="Scenarios, a power of two.")] = 1024,
    policy: Annotated[
        list[str] | None, typer.Option(help="A policy of your own, FILE.py:NAME.", show_default=False)
    ] = None,
) -> None:
    """Compare every proposed way to schedule: on the four known ways never to end, and over a designed set."""
    with errors_on_one_line(f"what was finished is in {output}"):
        from migkit.run.whole_file import whole_file
        from migkit.study import lab as laboratory
        from migkit.study.atlas import write_lab

        own = [laboratory.own_policy(each) for each in policy or ()]
        table = laboratory.run(points, own, output / "results", progress=True)
        text = laboratory.text(table, points)
        with whole_file(output / "lab.md") as file:
            file.write(text.encode())
        with whole_file(output / "lab.csv") as file:
            table.to_csv(file)
        write_lab(table, output)
        typer.echo(text)


@app.command()
def figures(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures.")] = Path("figures"),
    results: Annotated[Path, typer.Option(help="Folder of the results; what is missing is computed.")] = Path("study"),
) -> None:
    """Write all figures as PDF, SVG and PNG; results that are missing are computed first."""
    with errors_on_one_line(f"what was finished is in {results}"):
        from migkit.qemu.traces import runs
        from migkit.qemu.validation import by_configuration, predictions
        from migkit.scenario.errors import ScenarioError
        from migkit.study import atlas, experiments

        try:
            runs()  # said before anything is computed
        except FileNotFoundError as error:
            raise ScenarioError(str(error)) from None
        wanted = experiments.experiments() | experiments.further_experiments()
        for name, experiment in list(wanted.items()):
            if (why := experiment.cannot_be_computed()) and experiments.load(experiment, results) is None:
                typer.echo(f"{name} is left out: {why}", err=True)
                del wanted[name]
        datasets = {}
        for experiment in wanted.values():
            datasets[experiment.name] = experiments.result(experiment, results, progress=True)
        measured = by_configuration(predictions(kept=results))
        for path in atlas.write_all(datasets, output, measured):
            typer.echo(str(path))


if __name__ == "__main__":
    app()
