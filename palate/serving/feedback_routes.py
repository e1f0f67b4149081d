"""The route of feedback."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from palate.serving.api_errors import ApiError
from palate.serving.feedback import FeedbackBody
from palate.serving.serve_app import json_reply, read_body, serving_of


async def feedback(request: Request) -> Response:
    """Store what a user says about an answer. When this returns, it is on the disk."""
    serving = serving_of(request)
    caller = serving.gate.caller(request)
    body = await read_body(request, FeedbackBody)
    if serving.feedback is None:
        raise ApiError(404, "This server keeps no feedback: it was started without --store.", "no_store")
    name, is_new = await run_in_threadpool(serving.feedback.store, body, caller)
    if is_new:
        serving.metrics.feedback[body.metric_name] += 1
    return json_reply({"feedback_id": name})


FEEDBACK_ROUTES = (Route("/feedback", feedback, methods=["POST"]),)
