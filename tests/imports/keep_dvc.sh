#!/bin/sh
# Make data/NAME.tar.gz with a repository that DVC itself has written: keep_dvc.sh NAME
# The program `dvc` on the path decides the version: 3 for dvc3, 2 for dvc2.
set -eu
name=$1
data=$(cd "$(dirname "$0")" && pwd)/data
work=$(mktemp -d)
cd "$work"
mkdir "$name"
cd "$name"
export GIT_AUTHOR_NAME='Ada Lovelace' GIT_AUTHOR_EMAIL=ada@example.org
export GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
commit() {
    git add -A
    GIT_AUTHOR_DATE="$1" GIT_COMMITTER_DATE="$1" git commit -q -m "$2"
}
git init -q -b main .
dvc init -q
dvc config core.analytics false
mkdir -p data/raw models
printf 'x,y\n1,2\n' > data/raw/a.csv
printf 'line\r\nline\r\n' > data/raw/windows.txt
printf '#!/bin/sh\necho\n' > models/run.sh
chmod +x models/run.sh
dvc add -q data/raw
dvc add -q models/run.sh
cat > dvc.yaml <<'STAGES'
stages:
  report:
    cmd: mkdir -p out && cp total.txt out/report.txt
    deps:
      - total.txt
    outs:
      - out
  total:
    cmd: wc -c < data/raw/a.csv > total.txt
    deps:
      - data/raw/a.csv
    params:
      - lr
    outs:
      - total.txt
    metrics:
      - metrics.json:
          cache: false
STAGES
echo 'lr: 0.1' > params.yaml
sed -i 's/total.txt$/total.txt \&\& echo "{}" > metrics.json/;' dvc.yaml
sed -i 's/out\/report.txt .*/out\/report.txt/; s/^      - total.txt .*/      - total.txt/' dvc.yaml
commit 2024-01-01T10:00:00+01:00 'The data'
dvc repro -q
commit 2024-01-02T10:00:00+01:00 'The first results'
printf '3,4\n' >> data/raw/a.csv
printf 'new\n' > data/raw/b.csv
dvc add -q data/raw
dvc repro -q
commit 2024-01-03T10:00:00+01:00 'More data

With a reason.'
dvc remove -q models/run.sh.dvc
commit 2024-01-04T10:00:00+01:00 'No script'
rm -rf .dvc/tmp .dvc/cache/runs
cd ..
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=2024-01-05 -czf "$data/$name.tar.gz" "$name"
rm -rf "$work"
