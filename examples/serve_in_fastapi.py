"""The pages and the API in an application with its own users.

pip install fastapi 'runcas[web]'
uvicorn --app-dir examples serve_in_fastapi:app
"""

from fastapi import FastAPI, Request

import index
from index.web import Grant, application

USERS = {"ada": Grant.of("session-1"), "root": Grant()}  # yours come from a login


def authorize(request: Request) -> Grant | None:
    return USERS.get(request.headers.get("x-user", ""))


app = FastAPI()
app.mount("/runs", application(index.open(), authorize=authorize))
