"""Signing in and out: sessions on the server, their tokens hashed, a new token at every sign-in."""

from __future__ import annotations

from starlette.responses import Response

from palate.core import ConfigError
from palate.ratings import Account, AccountRole
from palate.web.access import AccessError, RequestContext, cookie_name
from palate.web.credentials import check_name, check_password, hashed
from palate.web.service import DAY, Service

DEVICE_SECONDS = 365 * DAY
"""How long a browser is known in which somebody signed in."""


def device_cookie(service: Service) -> str:
    """Name of the cookie by which a browser is known again."""
    return f"{cookie_name(service)}-known"


def sign_in(visit: RequestContext, account: Account, response: Response) -> Response:
    """The response with the cookie of a new session; the session that the browser had before ends."""
    service = visit.service
    if visit.session is not None:
        service.ratings.end_session(visit.token_hash)
    token, now = service.token(), service.clock()
    expires = now + service.settings.session_seconds
    service.ratings.start_session(account.id, hashed(token, "cookie"), service.token(), now, expires)
    response.set_cookie(
        cookie_name(service), token, max_age=int(service.settings.session_seconds), path="/", secure=service.settings.secure, httponly=True,
        samesite="lax",
    )  # fmt: skip
    if not _device(visit, account.name):
        _remember(visit, account, response)
    return response


def _remember(visit: RequestContext, account: Account, response: Response) -> None:
    """The browser is known to the account for a year. What it keeps opens nothing: it only has tries at a password of its own."""
    service, token = visit.service, visit.service.token()
    now = service.clock()
    service.ratings.start_session(account.id, hashed(token, "device"), service.token(), now, now + DEVICE_SECONDS)
    response.set_cookie(
        device_cookie(service), token, max_age=int(DEVICE_SECONDS), path="/", secure=service.settings.secure, httponly=True, samesite="lax"
    )


def _device(visit: RequestContext, name: str) -> str:
    """What stands for the browser's address when the account of this name was signed in there before; "" elsewhere."""
    token = visit.request.cookies.get(device_cookie(visit.service), "")
    digest = hashed(token, "device")
    found = visit.service.ratings.session(digest, visit.service.clock()) if token else None
    named = visit.service.ratings.account_by_name(name) if found is not None else None
    return f"device {digest}" if found is not None and named is not None and found.account.id == named.id else ""


def sign_out(visit: RequestContext, response: Response) -> Response:
    """The response that ends the session, on the server and in the browser."""
    visit.service.ratings.end_session(visit.token_hash)
    response.delete_cookie(cookie_name(visit.service), path="/", secure=visit.service.settings.secure, httponly=True, samesite="lax")
    return response


def new_key(service: Service, account: Account) -> str:
    """A key for programs: a session of its own, which a browser's cookie cannot be and which cannot be a cookie."""
    token, now = service.token(), service.clock()
    service.ratings.start_session(account.id, hashed(token, "key"), service.token(), now, now + service.settings.key_seconds)
    return token


def authenticate(visit: RequestContext, name: str, password: str) -> Account:
    """The account of this name and password.

    A try is written down before the password is looked at, so that many at once count as many. Tries are counted by name and address
    together, so that nobody can lock out another who sits elsewhere, and, with more of them allowed, by name and by address alone. A
    browser that the account was signed in at before counts its own tries apart, whatever others do to the name.

    Raises:
        AccessError: 401 name or password is wrong, 429 too many have failed.
    """
    service, ratings, settings = visit.service, visit.service.ratings, visit.service.settings
    device = _device(visit, name)
    address = device or (visit.request.client.host if visit.request.client else "")
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
    kept = ratings.password_hash(account.id) if account is not None else None
    if not service.passwords.verify(kept, password) or account is None or kept is None:
        raise AccessError(401, "wrong", "The name or the password is wrong.")
    ratings.forget_failed_logins(name, address)
    if service.passwords.is_outdated(kept):
        ratings.set_password(account.id, service.passwords.hash(password))
    return account


def check_own_password(visit: RequestContext, password: str) -> None:
    """Refuses when it is not the password of whoever is signed in; failures count as failed sign-ins.

    Raises:
        AccessError: 401 or 429.
    """
    try:
        authenticate(visit, visit.me.name, password)
    except AccessError as error:
        words = "The password is wrong." if error.status == 401 else error.words
        raise AccessError(error.status, error.code, words) from error


def asked_for(visit: RequestContext, role: AccountRole) -> tuple[Account, str]:
    """The account that the form asks for, to be made, and the hash of its password.

    Raises:
        ConfigError: name or password cannot be used, or the name is taken.
    """
    service = visit.service
    name, password = check_name(visit.text("name")), visit.text("password")
    check_password(password, name)
    if service.ratings.account_by_name(name) is not None:
        raise ConfigError("The name is taken. Choose another.")
    return Account("", name, "person", role, "", (), service.clock()), service.passwords.hash(password)


def new_account(visit: RequestContext, role: AccountRole) -> Account:
    """An account with the name and password of the form. Errors as `asked_for`."""
    service = visit.service
    asked, kept = asked_for(visit, role)
    account = service.ratings.add_account(asked.name, role, asked.created, password_hash=kept)
    service.audit(account.id, "account made", account.id, {"role": role})
    return account
