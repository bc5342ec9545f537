#!/bin/sh
# Make a figure in three places: a run that cleans data, a run that draws it, and a fork that
# changes the drawing. Then print what the figure was made from.
#
#     sh examples/two_runs.sh DIRECTORY
set -eu

mkdir -p "$1"
cd "$1"
mkdir -p clean draw
export CAS_SESSION=example

# The first run: raw data arrives, and an agent cleans it.
printf 'b,2\na,1\n\nc,3\n' > clean/raw.csv
cas track clean --run clean --phase data --agent loader --node load
cas run --run clean --dir clean --phase data --agent cleaner --node clean --input clean/raw.csv \
    sh -c 'grep . clean/raw.csv | sort > clean/table.csv'

# The second run: another agent draws the table of the first.
cas use table.csv --from clean --run draw --phase report --agent plotter --node draw
cat > bars.awk <<'END'
BEGIN { FS = ","; print "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 60 40'>" }
{ print "<rect x='" NR * 15 "' y='" 40 - $2 * 10 "' width='10' height='" $2 * 10 "'/>" }
END { print "</svg>" }
END
cas run --run draw --dir draw --phase report --agent plotter --node draw \
    sh -c 'awk -f bars.awk clean/table.csv > draw/figure.svg'

# A fork of it: somebody wants the bars in another colour.
cas fork colour --run draw
cas restore --run colour --to colour
cas run --run colour --dir colour --phase report --agent editor --node colour \
    --input colour/figure.svg --final 'final.svg' \
    sh -c 'sed "s/<rect/<rect fill=\"teal\"/" colour/figure.svg > colour/final.svg'

echo
cas lineage final.svg --run colour
