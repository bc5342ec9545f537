"""The commands that let go what is not needed, and hold what is: prune, drop, hold, quota."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from index.cli.completing import completing
from index.cli.options import json_option, listing_options, only_run, run_options, session_option
from index.cli.output import Form, counted, print_json, print_report
from index.cli.remove import confirm
from index.cli.selectors import split_version
from index.cli.settings import setting
from index.cli.tables import Column, path_column, show
from index.cli.terminal import printable
from index.cli.units import read_duration, read_size
from index.domain.units import human_size, parse_size

if TYPE_CHECKING:
    from index.api.session import Session
    from index.cli.location import StoreLocation
    from index.domain.retention import RetentionPolicy, RunChoice
    from index.domain.usage import Usage
    from index.maintenance.retention import RetentionPlan

__all__ = ["drop", "hold", "prune", "quota"]

_STATUSES: Final = click.Choice(["running", "finished", "failed", "cancelled"])

_COUNT: Final = click.IntRange(min=0)

_AGENT: Final = click.option("--agent", envvar="CAS_AGENT", default=setting("agent"),
                             metavar="NAME", help="Who says so.")  # fmt: skip


@click.command()
@session_option()
@click.option("--keep-last", type=_COUNT, default=0, metavar="N", help="Keep the N newest runs.")
@click.option("--keep-hourly", type=_COUNT, default=0, metavar="N",
              help="Keep the newest run of each of the last N hours with runs.")  # fmt: skip
@click.option("--keep-daily", type=_COUNT, default=0, metavar="N", help="The same of days.")
@click.option("--keep-weekly", type=_COUNT, default=0, metavar="N", help="The same of weeks.")
@click.option("--keep-monthly", type=_COUNT, default=0, metavar="N", help="The same of months.")
@click.option("--keep-yearly", type=_COUNT, default=0, metavar="N", help="The same of years.")
@click.option("--keep-within", callback=read_duration, metavar="SPAN",
              help="Keep runs that are at most this much older than the newest one.")  # fmt: skip
@click.option("--keep-status", "keep_statuses", type=_STATUSES, multiple=True,
              help="Keep runs with this status; may be repeated. Default: running.")  # fmt: skip
@click.option("--only-status", "only_statuses", type=_STATUSES, multiple=True,
              help="Leave runs with other statuses out; may be repeated.")  # fmt: skip
@click.option("--group-by", metavar="REGEX",
              help="Apply the rules to each group of runs whose ids begin alike.")  # fmt: skip
@click.option("--drop-type", metavar="TYPE", shell_complete=completing("file_type"),
              help="Drop past versions of this type.")  # fmt: skip
@click.option("--drop-larger", callback=read_size, metavar="SIZE",
              help="Drop past versions of more bytes.")  # fmt: skip
@click.option("--drop-older", callback=read_duration, metavar="SPAN",
              help="Drop past versions that were replaced or removed longer ago.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would go and why; change nothing.")
@click.option("--yes", is_flag=True, help="Delete and drop without asking.")
@json_option
@click.pass_obj
def prune(
    location: StoreLocation,
    /,
    *,
    session_id: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **rules: Any,
) -> None:
    """Delete the runs of a session that no rule keeps, and drop past versions.

    The rules are those of restic's forget, for runs in place of snapshots. Tagged and held runs are
    always kept. The --drop options go together: a past version must fulfil all that are given, and
    stays on record without its bytes. `cas gc` removes the bytes.

    \b
    cas prune --keep-last 5 --keep-daily 14 --dry-run
    cas prune --keep-within 90d --only-status failed --only-status cancelled --yes
    cas prune --drop-type data --drop-larger 100MiB --drop-older 30d
    """  # noqa: D301
    policy = _policy(rules)
    with location.open(create=False) as store:
        plan = store.session(session_id).plan_retention(policy)
        if dry_run:
            _print_plan(plan, as_json=as_json)
            return
        if not (as_json or yes):
            _print_plan(plan, as_json=False)
        if not yes and (plan.deleted or plan.versions):
            confirm("delete these runs and drop these versions?")
        report = plan.execute()
    if as_json:
        print_report(report, dry_run=False)
        return
    for skipped in report.skipped:
        click.echo(f"left: {printable(skipped.run)}: {printable(skipped.reason)}", err=True)
    click.echo(
        f"deleted {counted(len(report.runs), 'run')}, dropped"
        f" {counted(len(report.dropped), 'version')}; cas gc removes bytes that nothing needs"
    )


def _policy(rules: dict[str, Any]) -> RetentionPolicy:
    from index.domain.retention import RetentionPolicy, VersionRule

    names = {"drop_type": "file_type", "drop_larger": "larger_than", "drop_older": "older_than"}
    which = {name: rules.pop(option) for option, name in names.items()}
    rules = {name: value for name, value in rules.items() if value not in ((), None)}
    is_given = any(value is not None for value in which.values())
    versions = (VersionRule(**which),) if is_given else ()
    policy = RetentionPolicy(**rules, versions=versions)
    if not (policy.drops_runs or versions):
        raise click.UsageError("say what to keep, as --keep-last 5, or what to drop")
    return policy


def _print_plan(plan: RetentionPlan, *, as_json: bool) -> None:
    if as_json:
        print_report(plan, dry_run=True)
        return
    show(plan.runs, _RUNS, None)
    show(plan.versions, _VERSIONS, None)
    size = sum(version.size for version in plan.versions)
    click.echo(
        f"{counted(len(plan.deleted), 'run')} to delete, {len(plan.kept)} to keep;"
        f" {counted(len(plan.versions), 'version')} to drop ({human_size(size)})"
    )


def _fate(run: RunChoice) -> str:
    return "keep" if run.reasons else "delete"


_RUNS: Final = (
    Column("fate", _fate, rank=0),
    Column("run", rank=0),
    Column("active", lambda run: run.active_at, rank=1),
    Column("files", rank=2),
    Column("bytes", size=True, rank=2),
    Column("why", lambda run: ", ".join(run.reasons) or "no rule keeps it", rank=0),
)

_VERSIONS: Final = (
    Column("fate", lambda _version: "drop", rank=0),
    Column("run", rank=1),
    Column("size", size=True, rank=1),
    Column("version", rank=0),
    Column("why", lambda version: version.reason, rank=1),
    path_column(),
)


@click.command()
@click.argument("path", metavar="PATH@VERSION", shell_complete=completing("path"))
@run_options
@click.option("--reason", required=True, metavar="TEXT", help="Why, for whoever asks for it later.")
@_AGENT
@json_option
@click.pass_obj
def drop(
    location: StoreLocation,
    /,
    *,
    path: str,
    session_id: str,
    run_id: str | None,
    reason: str,
    agent: str | None,
    as_json: bool,
) -> None:
    """Let the bytes of a past version go. That it was there stays on record.

    A current version can't be dropped, nor one that a tag names or that is held. `cas prune` drops
    many by their type, size and age. `cas gc` removes bytes that nothing needs any more.

    \b
    cas drop data/part-1.csv@2 --reason "larger than the disk"
    """  # noqa: D301
    with location.open(create=False) as store:
        run = only_run(store, session_id, run_id)
        plain, version, _ = split_version(run, path, None)
        if version is None:
            raise click.UsageError(f"name the version: {printable(path)}@1")
        dropped = run.drop(plain, version=version, reason=reason, agent=agent)
    if as_json:
        print_json(dropped)
        return
    click.echo(
        f"dropped the bytes of version {version} of {printable(dropped.path)}"
        f" ({human_size(dropped.size)}); cas gc removes them if nothing else needs them"
    )


@click.command()
@click.argument("reason", required=False)
@session_option()
@click.option("--run", "run_id", metavar="ID",
              shell_complete=completing("run"),
              help="The run to hold or to release.")  # fmt: skip
@click.option("--whole-session", is_flag=True, help="Hold or release the session with all runs.")
@click.option("--release", is_flag=True, help="End the holds; REASON says why.")
@click.option("--history", is_flag=True, help="List holds that were released, too.")
@_AGENT
@listing_options
@click.pass_obj
def hold(
    location: StoreLocation,
    /,
    *,
    reason: str | None,
    session_id: str,
    run_id: str | None,
    whole_session: bool,
    release: bool,
    history: bool,
    agent: str | None,
    form: Form | None,
    full: bool,
) -> None:
    """Hold a run or session, so that nothing of it can be deleted or dropped.

    Without REASON, the command lists the holds of the session. What is held can be written to.

    \b
    cas hold "case 7" --run run-7
    cas hold "audit of May" --whole-session
    cas hold "the case is closed" --run run-7 --release
    cas hold "the audit is over" --whole-session --release
    cas hold --history
    """  # noqa: D301
    if (reason is None) == ((run_id is not None) != whole_session):
        raise click.UsageError("give a REASON with either --run or --whole-session")
    if (release and reason is None) or (history and reason is not None):
        raise click.UsageError("--release goes with a REASON, and --history without one")
    with location.open(create=False) as store:
        session = store.session(session_id)
        owner = session if run_id is None else session.run(run_id)
        if reason is None:
            session.runs(limit=0)  # so that a session that does not exist is an error
            found = session.holds(past=history)
            show(found, _HOLDS, form, full=full, empty="nothing is held")
        elif release:
            show(owner.release_hold(reason, agent=agent), _HOLDS, form, full=full,
                 empty="nothing was held")  # fmt: skip
        else:
            show([owner.hold(reason, agent=agent)], _HOLDS, form, full=full)


_HOLDS: Final = (
    Column("run", lambda hold: hold.run or "(session)", rank=0),
    Column("agent", rank=2),
    Column("since", lambda hold: hold.created_at, rank=1),
    Column("reason", rank=0),
    Column("released", lambda hold: hold.released_at, rank=2),
    Column("why", lambda hold: hold.release_reason, rank=3),
)


@click.command()
@click.argument("size", required=False)
@session_option()
@json_option
@click.pass_obj
def quota(location: StoreLocation, /, *, size: str | None, session_id: str, as_json: bool) -> None:
    """Show or set how many bytes a session may hold; "none" for any number.

    Bytes count before compression, and once in each run that has them. What would take the session
    beyond its quota is refused before it is written. What is there stays.

    \b
    cas quota
    cas quota 500GiB --session task-12
    cas quota none
    """  # noqa: D301
    with location.open(create=False) as store:
        session = store.session(session_id)
        usage = session.usage() if size is None else _set_quota(session, size)
    if as_json:
        print_json(usage)
        return
    most = "without a quota"
    if usage.quota_bytes is not None:
        most = f"of {human_size(usage.quota_bytes)}"
    click.echo(f"session {printable(session_id)} holds {human_size(usage.bytes)} {most}")


def _set_quota(session: Session, size: str) -> Usage:
    try:
        wanted = {"none": None, "0": 0}[size] if size in ("none", "0") else parse_size(size)
    except ValueError as error:
        raise click.UsageError(f'{error}; or "none"') from error
    return session.set_quota(wanted)
