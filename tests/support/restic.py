"""Ask restic what its policies keep of snapshots at random times, for `test_retention.py`.

    python tests/support/restic.py RESTIC > tests/data/restic.json

RESTIC is the program. Since version 0.16 it also keeps the oldest snapshot while some are left to
keep, which the answers of an older one leave to another test.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

POLICIES = (
    "--keep-last=3",
    "--keep-hourly=4",
    "--keep-daily=5",
    "--keep-weekly=3",
    "--keep-monthly=4 --keep-last=1",
    "--keep-yearly=9",
    "--keep-hourly=2 --keep-daily=3 --keep-weekly=4 --keep-monthly=5 --keep-yearly=6",
    "--keep-within=9d",
    "--keep-within=2d --keep-monthly=100",
    "--keep-hourly=100",
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def ask(program, folder):
    """Return the times of some snapshots, and for each policy those that are kept."""
    environment = {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(folder / "repository")}
    environment |= {"HOME": str(folder), "TZ": "UTC", "PATH": "/usr/bin:/bin"}

    def call(*arguments):
        command = (program, "--no-cache", *arguments)
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode()

    call("init")
    draw = random.Random(7)
    times = set()
    for days in (1 / 12, 1, 7, 60, 900):
        spans = (draw.random() * timedelta(days=days) for _ in range(8))
        times |= {(NOW - span).replace(microsecond=0) for span in spans}
    for at in sorted(times):
        call("backup", "--host", "h", "--time", f"{at:%Y-%m-%d %H:%M:%S}", "/usr/bin/env")
    kept = {}
    for rules in POLICIES:
        (group,) = json.loads(call("forget", "--dry-run", "--json", *rules.split()))
        found = [datetime.fromisoformat(each["time"]) for each in group["keep"]]
        kept[rules] = [at.isoformat() for at in sorted(found, reverse=True)]
    return {
        "restic": call("version").strip(),
        "times": [at.isoformat() for at in sorted(times)],
        "kept": kept,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.stdout.write(json.dumps(ask(sys.argv[1], Path(made)), indent=1) + "\n")
