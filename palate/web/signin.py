"""Sign in and out. Sessions are on the server, their tokens are stored as hashes, and every sign-in makes a new token."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from palate.core import ConfigError
from palate.ratings import Account, AccountRole
from palate.web.access import AccessError, RequestContext, cookie_name
from palate.web.credentials import check_name, check_password, hashed
from palate.web.service import DAY, Service

DEVICE_SECONDS = 365 * DAY
"""How long a browser is recognised after somebody signed in there."""


def device_cookie(request: Request) -> str:
    """Return the name of the cookie that recognises a browser."""
    return f"{cookie_name(request)}-known"


def sign_in(context: RequestContext, account: Account, response: Response) -> Response:
    """Start a session and put its cookie into the response. The session that the browser had before ends."""
    service = context.service
    if context.session is not None:
        service.ratings.end_session(context.token_hash)
    token, now = service.token(), service.clock()
    expires = now + service.settings.session_seconds
    service.ratings.start_session(account.id, hashed(token, "cookie"), service.token(), now, expires)
    response.set_cookie(
        cookie_name(context.request), token, max_age=int(service.settings.session_seconds), path="/", secure=service.settings.secure,
        httponly=True, samesite="lax",
    )  # fmt: skip
    if not _device(context, account.name):
        _remember(context, account, response)
    return response


def _remember(context: RequestContext, account: Account, response: Response) -> None:
    """Let the browser be recognised for a year. Its cookie does not open anything: its failed sign-ins are only counted apart."""
    service, token = context.service, context.service.token()
    now = service.clock()
    service.ratings.start_session(account.id, hashed(token, "device"), service.token(), now, now + DEVICE_SECONDS)
    response.set_cookie(
        device_cookie(context.request), token, max_age=int(DEVICE_SECONDS), path="/", secure=service.settings.secure, httponly=True,
        samesite="lax",
    )  # fmt: skip


def _device(context: RequestContext, name: str) -> str:
    """Return an id of the browser if the account of this name was signed in there before, otherwise ""."""
    token = context.request.cookies.get(device_cookie(context.request), "")
    digest = hashed(token, "device")
    session = context.service.ratings.session(digest, context.service.clock()) if token else None
    named = context.service.ratings.account_by_name(name) if session is not None else None
    return f"device {digest}" if session is not None and named is not None and session.account.id == named.id else ""


def sign_out(context: RequestContext, response: Response) -> Response:
    """End the session on the server, and in the browser by this response."""
    context.service.ratings.end_session(context.token_hash)
    response.delete_cookie(cookie_name(context.request), path="/", secure=context.service.settings.secure, httponly=True, samesite="lax")
    return response


def new_key(service: Service, account: Account) -> str:
    """Return a new key for programs. It is a separate session; a cookie cannot be used as a key, nor a key as a cookie."""
    token, now = service.token(), service.clock()
    service.ratings.start_session(account.id, hashed(token, "key"), service.token(), now, now + service.settings.key_seconds)
    return token


def authenticate(context: RequestContext, name: str, password: str) -> Account:
    """Return the account with this name and password.

    An attempt is recorded before the password is checked, so that many attempts at once count as many. Attempts are counted by name and
    address together, so that nobody can lock out a person who sits elsewhere. With higher limits they are also counted by name alone and
    by address alone. A browser in which the account was signed in before counts its own attempts apart, whatever others do to the name.

    Raises:
        AccessError: 401 the name or the password is wrong; 429 too many attempts have failed.
    """
    service, ratings, settings = context.service, context.service.ratings, context.service.settings
    device = _device(context, name)
    address = device or (context.request.client.host if context.request.client else "")
    now = service.clock()
    ratings.record_failed_login(name, address, now)
    failed = ratings.failed_logins(name, address, now - settings.window_seconds)
    is_flooded = failed.name > settings.name_attempts or failed.address > settings.address_attempts
    if failed.both > settings.attempts or (is_flooded and not device):
        minutes = int(service.settings.window_seconds // 60)
        raise AccessError(
            429, "throttled", f"Too many sign-ins have failed. Wait {minutes} minutes, or ask an owner for a new password link."
        )
    account = ratings.account_by_name(name)
    stored = ratings.password_hash(account.id) if account is not None else None
    if not service.passwords.verify(stored, password) or account is None or stored is None:
        raise AccessError(401, "wrong", "The name or the password is wrong.")
    ratings.forget_failed_logins(name, address)
    if service.passwords.is_outdated(stored):
        ratings.set_password(account.id, service.passwords.hash(password))
    return account


def check_own_password(context: RequestContext, password: str) -> None:
    """Refuse a password that is not the one of the signed-in account. FailedLogins count as failed sign-ins.

    Raises:
        AccessError: 401 or 429.
    """
    try:
        authenticate(context, context.me.name, password)
    except AccessError as error:
        message = "The password is wrong." if error.status == 401 else error.message
        raise AccessError(error.status, error.code, message) from error


def account_from_form(context: RequestContext, role: AccountRole) -> tuple[Account, str]:
    """Return the account that the form asks for, which is not stored yet, and the hash of its password.

    Raises:
        ConfigError: name or password cannot be used, or the name is taken.
    """
    service = context.service
    name, password = check_name(context.text("name")), context.text("password")
    check_password(password, name)
    if service.ratings.account_by_name(name) is not None:
        raise ConfigError("The name is taken. Choose another.")
    return Account("", name, "person", role, "", (), service.clock()), service.passwords.hash(password)


def new_account(context: RequestContext, role: AccountRole) -> Account:
    """Store an account with the name and password of the form. Errors as `account_from_form`."""
    service = context.service
    requested, password_hash = account_from_form(context, role)
    account = service.ratings.add_account(requested.name, role, requested.created, password_hash=password_hash)
    service.audit(account.id, "account made", account.id, {"role": role})
    return account
