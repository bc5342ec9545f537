#!/bin/sh
# A run of three steps by two agents, in a new directory, and what can be asked about it afterwards.
set -eu
here=${1:-demo}
[ ! -e "$here" ] || { echo "$here is there already; name another directory" >&2; exit 1; }
mkdir -p "$here/work/data" && cd "$here"
export CAS_STORE="$PWD/.cas"

show() { # a command, as it is typed, and what it prints
    printf '\n$ %s\n' "$*"
    "$@"
}
record() { # what a step of an agent has left behind
    cas track work --quiet --agent "$1" --phase "$2" --node "$3" >/dev/null
}

printf '# Plan\nFit the decay of the signal.\n' >work/plan.md
record planner planning plan

printf 'time,signal\n0,8.0\n1,4.1\n2,1.9\n' >work/data/signal.csv
printf 'rate,error\n0.6,0.2\n' >work/data/fit.csv
record engineer control step_1

printf 'rate,error\n0.69,0.03\n' >work/data/fit.csv
printf '# Report\nThe rate is 0.69.\n' >work/report.md
record engineer control step_2

show cas snapshots
show cas log data/fit.csv
show cas who data/fit.csv
show cas diff 2 3 --text
