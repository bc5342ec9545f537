"""A small API with an OpenAPI document, and faults that a test of conformance must notice."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

__all__ = ["sample"]

RUNS = {name: {"name": name, "files": 3} for name in ("run-1", "run-2")}


def described(schema, what):
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def operation(schema, parameters):
    refused = {
        status: described({"$ref": "#/components/schemas/Error"}, what)
        for status, what in (("400", "A wrong request"), ("401", "No token"), ("404", "No run"))
    }
    return {
        "get": {"parameters": parameters, "responses": {"200": described(schema, "OK"), **refused}}
    }


RUN = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "files": {"type": "integer", "minimum": 0}},
    "required": ["name", "files"],
}
LIMIT = {
    "name": "limit",
    "in": "query",
    "schema": {"enum": ["1", "2"]},
}
NAME = {"name": "run", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Runs", "version": "1"},
    "security": [{"token": []}],
    "paths": {
        "/api/v1/runs": operation({"type": "array", "items": RUN}, [LIMIT]),
        "/api/v1/runs/{run}": operation(RUN, [NAME]),
    },
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": {"Error": {"type": "object", "required": ["error"]}},
    },
}


FAULTY = {
    "crashes": lambda: error(500),
    "undocumented status": lambda: JSONResponse([], 202),
    "wrong type": lambda: PlainTextResponse("run-1"),
    "wrong body": lambda: JSONResponse([{"name": 1}]),
}


def error(status):
    return JSONResponse({"error": "something is wrong"}, status)


def sample(token, fault=None):
    """Return the application; `fault` is what it does wrong."""

    def answer(request, allowed, make):
        if request.headers.get("authorization") != f"Bearer {token}" and fault != "open to all":
            return error(401)
        if set(request.query_params.multi_items()) - allowed and fault != "lenient":
            return error(400)
        return FAULTY.get(fault, make)()

    def runs(request):
        allowed = {("limit", "1"), ("limit", "2")}
        return answer(request, allowed, lambda: JSONResponse([*RUNS.values()]))

    def run(request):
        found = RUNS.get(request.path_params["run"])
        return answer(request, set(), lambda: JSONResponse(found) if found else error(404))

    routes = [
        Route("/api/v1/openapi.json", lambda _: JSONResponse(DOCUMENT)),
        Route("/api/v1/runs", runs),
        Route("/api/v1/runs/{run}", run),
    ]
    return Starlette(routes=routes, exception_handlers={404: lambda *_: error(404)})
