"""Check the protocol, and that each wrong variant of it fails. Needs SPIN and a C compiler.

    python check.py               check everything, print the table
    python check.py NO_CLEAR      check only what has that name; several may be given
    python check.py --record      check everything and put the table into README.md
    python check.py --trace NAME  print what leads to the fault as well

The exit code is 1 if anything is not as expected.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
MODEL = HERE / "protocol.pml"
README = HERE / "README.md"
RESULTS = "## Results\n"
MEMORY = 2000  # megabytes
DEPTH = 1_000_000

LOST, DANGLING, GIVES_UP = "lost", "dangling", "a reader gives up"
FAULTS = {
    r"place\[\d\]!=255": LOST,
    r"present\[place\[\d\]\]": DANGLING,
    r"\(looks<2\)|assertion violated 0|place\[digest\]!=pack": GIVES_UP,
    r"row\[\w+\]!=GONE|row\[\d\]": "not collectable",
    r"invalid end state": "stuck",
}


class Check(NamedTuple):
    """One run of SPIN."""

    name: str
    macros: tuple[str, ...]
    expected: str | None = None
    """How it is to fail; None if it is to pass."""


ONE_COLLECTOR = ("DIGESTS=2", "COLLECTORS=1")
TWO_PACKS = ("DIGESTS=2", "PACKS=2")
READING = ("WRITERS=1", "READERS=1")

CHECKS = [
    Check("the protocol", ("STRICT",)),
    Check("the protocol, two digests", ("STRICT", *ONE_COLLECTOR)),
    Check("the protocol, two digests and packs", ("STRICT", *TWO_PACKS)),
    Check("the protocol, a reader", ("STRICT", *READING)),
    Check("the protocol, no crashes", ("STRICT", "NO_CRASHES")),
    Check("CALLERS_TRANSACTION", ("STRICT", "CALLERS_TRANSACTION")),
    Check("NO_CLEAR", ("NO_CLEAR",)),
    Check("FLAG_SWEEP", ("FLAG_SWEEP",)),
    Check("NO_CLEAR, FLAG_SWEEP", ("NO_CLEAR", "FLAG_SWEEP"), LOST),
    Check("EARLIER_LOOK", ("EARLIER_LOOK",), LOST),
    Check("NO_RECHECK", ("NO_RECHECK",), LOST),
    Check("NO_PENDING", ("NO_PENDING",), DANGLING),
    Check("NO_PENDING_CHECK", ("NO_PENDING_CHECK",), DANGLING),
    Check("ROWS_FIRST", ("ROWS_FIRST",), DANGLING),
    Check("OBJECT_FIRST", ("OBJECT_FIRST",), DANGLING),
    Check("NAMES_RETURN", ("NAMES_RETURN",), DANGLING),
    Check("MOVE_UNCHECKED", ("MOVE_UNCHECKED",), DANGLING),
    Check("DELETE_BEFORE_MOVE", ("DELETE_BEFORE_MOVE",), DANGLING),
    Check("ONE_LOOK", ("ONE_LOOK", *READING), GIVES_UP),
    Check("TWO_LOOKS", ("TWO_LOOKS", *READING), GIVES_UP),
]


class Outcome(NamedTuple):
    """What SPIN said."""

    fault: str | None
    states: int
    depth: int
    seconds: float
    trace: str


def run(check: Check) -> Outcome:
    """Generate, compile and run one verifier."""
    with tempfile.TemporaryDirectory() as folder:

        def call(*command: str) -> str:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
            return done.stdout

        # A fault that is looked for is found breadth-first, so that what leads to it is short;
        # that there is none is seen depth-first, which takes less memory.
        search = () if check.expected is None else ("-DBFS",)
        macros = [f"-D{macro}" for macro in check.macros]
        shutil.copy(MODEL, folder)
        call("spin", "-a", *macros, MODEL.name)
        call("cc", "-O2", "-w", "-DSAFETY", f"-DMEMLIM={MEMORY}", *search, "-o", "pan", "pan.c")
        began = time.perf_counter()
        said = call("./pan", f"-m{DEPTH}", "-n")
        seconds = time.perf_counter() - began
        trace = call("spin", "-t", "-p", *macros, MODEL.name) if "errors: 1" in said else ""
    return Outcome(_fault_in(check, said), *_figures(check, said), seconds, trace)


def _fault_in(check: Check, said: str) -> str | None:
    if "errors: 0" in said:
        if re.search(r"Search not completed|depth too small|out of memory", said):
            sys.exit(f"{check.name}: the search was not completed:\n{said}")
        return None
    first = next((line for line in said.splitlines() if line.startswith("pan:1:")), "")
    for pattern, fault in FAULTS.items():
        if re.search(pattern, first):
            return fault
    return first or "unknown"


def _figures(check: Check, said: str) -> tuple[int, int]:
    states = re.search(r"(\d+)\s+states, stored", said)
    depth = re.search(r"depth reached (\d+)", said)
    if states is None or depth is None:
        sys.exit(f"{check.name}: the verifier said nothing of states:\n{said}")
    return int(states[1]), int(depth[1])


def fingerprint() -> str:
    """Return what tells one text of the model from another."""
    return hashlib.sha256(MODEL.read_bytes()).hexdigest()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Check the protocol with SPIN.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--record", action="store_true", help="put the table into README.md")
    parser.add_argument("--trace", action="store_true", help="print what leads to a fault")
    options = parser.parse_args()
    if unknown := set(options.names) - {check.name for check in CHECKS}:
        parser.error(f"there is no check {', '.join(sorted(unknown))}")
    chosen = [check for check in CHECKS if not options.names or check.name in options.names]
    lines = ["| variant | macros | states | depth | outcome | s |", "|---|---|---:|---:|---|---:|"]
    print("\n".join(lines))
    as_expected = True
    for check in chosen:
        found = run(check)
        outcome = "holds" if found.fault is None else f"fails: {found.fault}"
        lines.append(
            f"| {check.name} | {' '.join(check.macros)} | {found.states:,} | {found.depth} "
            f"| {outcome} | {found.seconds:.1f} |"
        )
        if found.fault != check.expected:
            as_expected = False
            lines[-1] += f" expected: {check.expected or 'holds'}"
        print(lines[-1], flush=True)
        if options.trace:
            print(found.trace)
    if options.record and as_expected and not options.names:
        about = README.read_text().partition(RESULTS)[0]
        table = "\n".join(lines)
        README.write_text(
            f"{about}{RESULTS}\nOf the model with SHA-256\n`{fingerprint()}`:\n\n{table}\n"
        )
    sys.exit(0 if as_expected else 1)


if __name__ == "__main__":
    main()
