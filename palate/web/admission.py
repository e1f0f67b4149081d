"""Admission: a request is let in by its head alone. Only then is its body read, and never on the event loop.

`GuardedRoute` is the one class of all routes. FastAPI by itself would read and parse a body of JSON before it asks any dependency, so
whoever can reach the server could fill its memory. Here the rule of the route (`Access`) decides first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, NoReturn, cast

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute

from palate.ratings.columns import is_unicode
from palate.web.access import Access, AccessError, RequestContext, check_csrf, has_form

MOST_CONTAINERS = 2_000_000
"""Most lists and objects in a body. An empty one takes two bytes of the body and thirty times as much of the memory."""


class GuardedRoute(APIRoute):
    """A route that checks its rule before it reads the body, and that parses JSON in a thread."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request: admission, then the body, then FastAPI's own handler."""
        answer = super().get_route_handler()
        rule = rule_of(self)
        if rule is None:
            raise TypeError(f"{self.path}: a route needs exactly one rule. Let it depend on Access.")
        model = None if self.body_field is None else cast("type[BaseModel]", self.body_field.field_info.annotation)

        async def admit(request: Request) -> Response:
            takes_form = model is None and has_form(request)
            context = await run_in_threadpool(rule.admit, request, has_form=takes_form)
            try:
                if takes_form:
                    context = await _with_form(request, context)
                request.state.context = context
                return await answer(request if model is None else await _with_body(request, model))
            except ClientDisconnect as error:
                raise AccessError(400, "malformed", "The request ended before its body did.") from error

        return admit


async def _with_form(request: Request, context: RequestContext) -> RequestContext:
    form = await request.form(max_files=1, max_fields=100)
    for name, value in form.multi_items():  # a form may name an encoding in which half a character can be written
        for text in (name, value):
            if isinstance(text, str) and not is_unicode(text):
                raise AccessError(422, "malformed", "The form holds half of a character. Send it in UTF-8.")
    if context.needs_csrf and context.session is not None:
        check_csrf(request, form, context.session)
    return replace(context, form=form)


class _ParsedRequest(Request):
    """A request whose body of JSON has been parsed and checked."""

    def __init__(self, request: Request, value: BaseModel | None) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        """Return something if there was a body; FastAPI only asks whether there was one."""
        return b"" if self._value is None else b"{}"

    async def json(self) -> Any:
        """Return the checked body."""
        return self._value


async def _with_body(request: Request, model: type[BaseModel]) -> Request:
    body = await request.body()
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise AccessError(415, "malformed", "Send the body as JSON, with the header Content-Type: application/json.")
    return _ParsedRequest(request, await run_in_threadpool(_checked, body, model) if body else None)


def _checked(body: bytes, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate(parse_body(body))
    except ValidationError as error:
        raise malformed(error.errors(include_url=False)) from error


def malformed(faults: Any) -> AccessError:
    """Return the refusal of a request with these faults (as pydantic lists them). It names the first."""
    first = faults[0] if faults else {"loc": (), "msg": "is malformed"}
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return AccessError(422, "malformed", f"{place}: {first['msg']}" if place else str(first["msg"]))


def parse_body(body: bytes) -> object:
    """Return the JSON value in a body.

    Raises:
        AccessError: 422, it is not JSON in UTF-8, holds a key twice, NaN or an infinite number, is nested too deeply, or holds more than
            `MOST_CONTAINERS` lists and objects. The last is found before anything is parsed.
    """
    count = body.count(b"[") + body.count(b"{")
    if count > MOST_CONTAINERS:
        raise AccessError(
            422, "malformed", f"The body holds {count} lists and objects, more than {MOST_CONTAINERS}. Send it in several requests."
        )
    try:
        # Python's parser holds the interpreter until it ends, but for the calls of these functions: in them other requests go on.
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse_number, parse_float=_float)
    except RecursionError as error:
        raise AccessError(422, "malformed", "The body is nested too deeply.") from error
    except ValueError as error:
        raise AccessError(422, "malformed", f"The body is not JSON: {error}.") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} comes twice in one object")
    return made


def _float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse_number(digits)


def _refuse_number(digits: str) -> NoReturn:
    raise ValueError(f"{digits[:60]} is not a finite number")


def rule_of(route: BaseRoute) -> Access | None:
    """Return the rule of a route, None if it does not have exactly one."""
    dependencies = _dependencies(route.dependant) if isinstance(route, APIRoute) else ()
    rules = [dependency for dependency in dependencies if isinstance(dependency, Access)]
    return rules[0] if len(rules) == 1 else None


def _dependencies(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _dependencies(dependency)
