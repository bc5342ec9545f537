from __future__ import annotations

import pytest
from places import EACH_INDEX, places

from index.domain.classification import DEFAULT_CLASSIFIER

place = places(EACH_INDEX)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("planning/final_plan.json", "plan"),
        ("plan.md", "plan"),
        ("planning/notes.txt", "plan"),
        ("codebase/step_1.py", "code"),
        ("data/result.csv", "data"),
        ("data/plots/fit.PNG", "plot"),
        ("chats/engineer.json", "chat"),
        ("cost/step_1.json", "cost"),
        ("context/step_1.pkl", "context"),
        ("reports/report.md", "report"),
        ("report.pdf", "report"),
        ("logs/run.txt", "log"),
        ("Makefile", "other"),
        (".hidden", "other"),
        ("data/archive.tar.gz", "data"),
        ("a/b/README", "other"),
        ("chats/planner.json", "chat"),
        ("data/exoplanets.json", "data"),
        ("reports/explanation.md", "report"),
        ("final_plan_v2.json", "plan"),
    ],
)
def test_the_kind_follows_extension_name_and_directory(path, kind):
    assert DEFAULT_CLASSIFIER.classify(path) == kind


@pytest.mark.parametrize(
    ("kind", "final", "priority"),
    [
        ("plot", False, "primary"),
        ("data", False, "primary"),
        ("code", False, "primary"),
        ("plan", False, "primary"),
        ("report", False, "secondary"),
        ("chat", False, "secondary"),
        ("cost", False, "internal"),
        ("other", False, "internal"),
        ("other", True, "primary"),
    ],
)
def test_priorities_are_those_of_the_specification(kind, final, priority):
    assert DEFAULT_CLASSIFIER.prioritise(kind, is_final_output=final) == priority
