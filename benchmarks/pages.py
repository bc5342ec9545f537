"""Pages and JSON of what was measured, and what the benchmarks' command lines share."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from machine import environment
from measure import GOAL, Answer, Comparison, Series, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULTS: Final = Path(__file__).parent / "results"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Return a Markdown table whose first `texts` columns are text and the others figures."""
    rule = ["---" if column < texts else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def prose(text: str) -> str:
    """Return a paragraph in lines of at most 100 columns; a table or a listing as it is."""
    if "\n" in text:
        return text
    return fill(text, 100, break_long_words=False, break_on_hyphens=False)


def verdict(answer: Answer, comparison: Comparison) -> list[str]:
    """Return the cells of one comparison: work, against, goal, ratios, outcome."""
    against, work = comparison.against, comparison.ours
    goal = "" if comparison.at_most is None else f"at most {comparison.at_most:.3g} x"
    if against.endswith(GOAL):
        against, goal = "", f"at most {against.removesuffix(GOAL)}"
    if not work.startswith(comparison.work):
        work = f"{comparison.work} ({work})"
    found = answer.ratios(comparison)
    if found is None:
        return [answer.question, work, against, goal, "", "", "not measured"]
    ratio, minima = found
    outcome = ""
    if comparison.at_most is not None:
        outcome = "reached" if ratio <= comparison.at_most else "**missed**"
        if (ratio <= comparison.at_most) != (minima <= comparison.at_most):
            outcome += ", by the minima " + ("missed" if minima > comparison.at_most else "reached")
    return [
        answer.question,
        work,
        against,
        goal,
        f"{ratio:.2f}",
        f"{minima:.2f}",
        outcome,
    ]


def comparisons_table(answers: Sequence[Answer]) -> str:
    """Return one table of all comparisons."""
    rows = [verdict(answer, wanted) for answer in answers for wanted in answer.comparisons]
    header = ("question", "work", "against", "goal", "median ratio", "of minima", "outcome")
    return table(header, rows, texts=4)


def series_table(answer: Answer) -> str:
    """Return the table of an answer's samples; of one figure each if there are no more."""
    if all(len(series.values) == 1 for series in answer.series.values()):
        if all(": " in name for name in answer.series):
            return pivot(answer)
        single = [[name, show(s.values[0], s.unit)] for name, s in answer.series.items()]
        return table(("", "figure"), single)
    rows = []
    for name, series in answer.series.items():
        first, third = series.quartiles
        figures = (series.median, min(series.values), first, third, max(series.values))
        rows.append(
            [name, *(show(figure, series.unit) for figure in figures), str(len(series.values))]
        )
    header = ("", "median", "minimum", "quartile 1", "quartile 3", "maximum", "samples")
    return table(header, rows)


def pivot(answer: Answer) -> str:
    """Return the medians as a table of contenders by works, from series named by `measure.of`."""
    works: dict[str, None] = {}
    cells: dict[str, dict[str, str]] = {}
    for name, series in answer.series.items():
        what, colon, who = name.partition(": ")
        if colon:
            works[what] = None
            cells.setdefault(who, {})[what] = show(series.median, series.unit)
    rows = [[who, *(found.get(what, "") for what in works)] for who, found in cells.items()]
    return table(("medians", *works), rows)


def report(
    title: str, about: dict[str, str], answers: Sequence[Answer], introduction: str = ""
) -> str:
    """Return the whole page: environment, comparisons, then one section for each question."""
    parts = [f"# {title}", table(("", ""), [list(item) for item in about.items()], texts=2)]
    if any(answer.comparisons for answer in answers):
        parts += ["## Ratios", comparisons_table(answers)]
    if introduction:
        parts.append(introduction)
    for answer in answers:
        parts.append(f"## {answer.question}")
        if answer.skipped:
            parts.append(f"Skipped: {answer.skipped}.")
            continue
        parts.append(prose(f"{answer.subject}. Rounds: {answer.rounds}."))
        parts.append(prose(f"`{answer.command}`, {answer.measured}."))
        if answer.series:
            parts.append(series_table(answer))
        parts += map(prose, answer.remarks)
    return "\n\n".join(parts) + "\n"


def as_json(about: dict[str, str], answers: Sequence[Answer]) -> str:
    """Return everything measured, sample by sample."""
    questions: dict[str, Any] = {}
    for answer in answers:
        compared = []
        for wanted in answer.comparisons:
            ratio, minima = answer.ratios(wanted) or (None, None)
            compared.append(
                {**asdict(wanted), "median_ratio": ratio, "ratio_of_minima": minima},
            )
        questions[answer.question] = {
            "subject": answer.subject,
            "rounds": answer.rounds,
            "command": answer.command,
            "measured": answer.measured,
            "skipped": answer.skipped,
            "comparisons": compared,
            "series": {n: {"unit": s.unit, "values": s.values} for n, s in answer.series.items()},
            "remarks": answer.remarks,
        }
    return json.dumps({"environment": about, "questions": questions}, indent=1) + "\n"


def answers_in(path: Path) -> dict[str, Answer]:
    """Return what a JSON file of results holds, by question; nothing if it is not there."""
    if not path.is_file():
        return {}
    found = {}
    for question, held in json.loads(path.read_text())["questions"].items():
        series = {name: Series(**each) for name, each in held.pop("series").items()}
        comparisons = [
            Comparison(each["work"], each["ours"], each["against"], each["at_most"])
            for each in held.pop("comparisons")
        ]
        found[question] = Answer(question, series=series, comparisons=comparisons, **held)
    return found


def command_line(description: str, questions: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=questions, metavar="QUESTION")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resume", action="store_true", help="not what this commit has answered")
    parser.add_argument("--work", type=Path, help="where temporary data goes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    parser.add_argument("--note", help="what a reader should know, such as other load")
    return parser


def _script() -> str:
    """Return the name of the benchmark that runs."""
    return Path(sys.argv[0]).stem.removeprefix("bench_")


@dataclass(slots=True)
class Publication:
    """The page of one benchmark, which keeps what was not asked again."""

    name: str
    title: str
    options: argparse.Namespace
    work: Path
    about: dict[str, str]
    """The machine and the run."""

    def ask(
        self,
        questions: Mapping[str, Callable[[], Answer]],
        *,
        usual: Sequence[str] | None = None,
        introduce: Callable[[Sequence[Answer]], str] = lambda _: "",
    ) -> None:
        """Ask what the options say; write page and JSON after each question.

        Parameters
        ----------
        questions
            All that there are, in the order of the page.
        usual
            Those that are asked if the options name none; None for all.
        introduce
            Makes a text of all answers that goes before them.
        """
        results = self.options.results
        results.mkdir(parents=True, exist_ok=True)
        path = results / f"bench_{self.name}.json"
        answers = {name: found for name, found in answers_in(path).items() if name in questions}
        measured = f"{self.about['date']}, commit {self.about['commit']}"
        for name in self.options.only or usual or questions:
            known = answers.get(name)
            if self.options.resume and known and known.measured.endswith(self.about["commit"]):
                continue
            print(f"{self.name}: {name} …", flush=True)
            answer = questions[name]()
            answer.question = name  # by which the page finds it again
            answer.command = f"python -m benchmarks {_script()} -- --only {quote(name)}"
            answer.measured = measured
            answers[name] = answer
            ordered = [answers[each] for each in questions if each in answers]
            page = report(self.title, self.about, ordered, introduce(ordered))
            path.with_suffix(".md").write_text(page)
            path.write_text(as_json(self.about, ordered))


@contextmanager
def publication(
    name: str, title: str, options: argparse.Namespace, packages: Sequence[str]
) -> Iterator[Publication]:
    """Yield the page of a benchmark with a directory to work in, which is removed at the end.

    Parameters
    ----------
    packages
        Distributions whose versions matter.
    """
    # Otherwise each measured process compiles all sources, and an installed one does not
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(dir=options.work, prefix=f"bench-{name}-") as directory:
        work = Path(directory)
        described = {**environment(work, packages), "rounds": str(options.rounds)}
        if options.note:
            described["note"] = options.note
        yield Publication(name, title, options, work, described)
