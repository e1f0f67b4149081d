"""Refusals of the serving API, in the JSON form that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from annotated_types import Ge, Le, MaxLen
from pydantic import BaseModel, ValidationError

from palate.config.settings import nearest

Body = TypeVar("Body", bound=BaseModel)

INVALID = "invalid_request_error"


class ApiError(Exception):
    """A request that is not answered. The message says what is wrong, and what to do.

    Attributes:
        status: the HTTP status.
        message: what is wrong, for the person behind the client.
        kind: OpenAI's type of error.
        code: a word for programs.
        param: the field that is wrong; None where it is not one.
        headers: headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.kind, self.param = status, message, code, kind, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        """The body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def parsed(content: bytes, model: type[Body]) -> Body:
    """Return the request in a body.

    Raises:
        ApiError: it is not JSON in UTF-8, a field is unknown, or a value cannot be; the message names the first fault.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_context=True), model) from None


def _refusal(faults: Sequence[Mapping[str, object]], model: type[BaseModel]) -> ApiError:
    fault = faults[0]
    place = fault["loc"] if isinstance(fault["loc"], tuple) else ()
    if fault["type"] == "json_invalid":
        return ApiError(400, f"The body is not a JSON object in UTF-8: {fault['msg']}.", "invalid_json")
    if not place:
        return ApiError(400, f"The body cannot be read: {_lower(fault)}.", "invalid_body")
    name = ".".join(str(part) for part in place[:1])
    if fault["type"] == "extra_forbidden":
        return ApiError(
            400, f"There is no field {_short(name)}. {nearest(name, list(model.model_fields))}", "unknown_field", param=name[:100]
        )
    if _has_one_value(model, name):
        return ApiError(
            400, f"{name}: this server cannot do that. Leave {name} out; got {_short(fault['input'])}.", "unsupported", param=name
        )
    ways = [_lower(one) for one in faults if isinstance(one["loc"], tuple) and one["loc"][:1] == place[:1]]
    message = ", or ".join(dict.fromkeys(ways[:4]))  # a field with several forms has a fault for each
    return ApiError(400, f"{name}: {message}; got {_short(fault['input'])}.", "invalid_value", param=name)


def _has_one_value(model: type[BaseModel], name: str) -> bool:
    """Whether a field takes only the value that stands for its absence: what it asks for would change the answer, and cannot be done."""
    limits = model.model_fields[name].metadata if name in model.model_fields else []
    highest, lowest = ({one.le for one in limits if isinstance(one, Le)}, {one.ge for one in limits if isinstance(one, Ge)})
    return MaxLen(0) in limits or bool(highest & lowest)


def _lower(fault: Mapping[str, object]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
