"""Write the sources of data/mlflow.tar.gz with MLflow itself (mlflow-skinny and SQLAlchemy).

MLFLOW_ALLOW_FILE_STORE=true python keep_mlflow.py
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path

import mlflow

DATA = Path(__file__).parent / "data"


def log_model(run):
    """Log a model as MLflow 3 does: beside the runs."""
    model = mlflow.initialize_logged_model(name="net", source_run_id=run)
    Path("weights.bin").write_bytes(b"weights")
    mlflow.MlflowClient().log_model_artifact(model.model_id, "weights.bin")
    mlflow.finalize_logged_model(model.model_id, "READY")


def log_runs(uri):
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("digits")
    for number in range(2):
        with mlflow.start_run(run_name=f"try {number}") as run:
            if number:
                log_model(run.info.run_id)
            mlflow.log_param("lr", 0.1 * (number + 1))
            mlflow.set_tag("note", "first")
            mlflow.set_tag("mlflow.user", "ada")
            mlflow.set_tag("mlflow.source.git.commit", "c0ffee")
            for step in range(3):
                mlflow.log_metric("train/loss", 1 / (step + 1), step=step)
            mlflow.log_metric("rmse", float("nan") if number else 0.25)
            mlflow.log_text(f"model {number}", "model.bin")
            mlflow.log_text("hello\n", "notes/read.txt")
    mlflow.start_run(run_name="broken")
    mlflow.end_run("FAILED")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for name, uri in (("files", "./mlruns"), ("server", "sqlite:///mlflow.db")):
        Path(name).mkdir()
        os.chdir(name)
        log_runs(uri)
        os.chdir("..")
    with tarfile.open(DATA / "mlflow.tar.gz", "w:gz") as archive:
        archive.add("files")
        archive.add("server")
sys.exit()
