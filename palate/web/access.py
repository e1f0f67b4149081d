"""Access: every route names its rule, and one place looks up and checks the objects in its path.

A route depends on `Access(least)`, and asks it before it reads the body (`palate.web.admission`). The rule finds the account, by cookie or
by a key sent as `Authorization: Bearer`. It checks the CSRF token of a request that changes something. It checks whether the account may
touch the `project`, `assignment`, `item` or `account` in the path. An object that the account may not see answers 404, like one that does
not exist. A test walks all routes and fails for one without a rule.
"""

import hmac
import re
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from palate.core import DataError
from palate.ratings import Account, Assignment, Item, Project, Session
from palate.web.credentials import hashed
from palate.web.service import Service

Least = Literal["public", "rater", "reviewer", "owner"]
RANKS: dict[str, int] = {"public": 0, "rater": 1, "reviewer": 2, "owner": 3}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

NOT_HERE = "This page does not exist, or you may not see it."


class AccessError(Exception):
    """A request that is refused: an HTTP status, a code for programs, and a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class RequestContext:
    """One request that passed its checks, with its account and the objects named in its path.

    Attributes:
        request: the request.
        service: the store, the settings, and sources of time and secrets.
        session: the session of the account; None if nobody is signed in.
        token_hash: hash of the session's token.
        form: fields of the form; empty for JSON.
        needs_csrf: the request changes something for a session, so it must show the session's CSRF token.
        path_project: the project in the path; the others likewise. None if the path does not name one.
    """

    request: Request
    service: Service
    session: Session | None = None
    token_hash: str = ""
    form: FormData = field(default_factory=FormData)
    needs_csrf: bool = False
    path_project: Project | None = None
    path_assignment: Assignment | None = None
    path_item: Item | None = None
    path_account: Account | None = None

    @property
    def me(self) -> Account:
        """The account that sent the request. Every rule except `public` guarantees one."""
        assert self.session is not None
        return self.session.account

    @property
    def project(self) -> Project:
        """The project in the path."""
        assert self.path_project is not None
        return self.path_project

    @property
    def assignment(self) -> Assignment:
        """The assignment in the path. It belongs to this account."""
        assert self.path_assignment is not None
        return self.path_assignment

    @property
    def item(self) -> Item:
        """The item in the path. It belongs to the project."""
        assert self.path_item is not None
        return self.path_item

    @property
    def account(self) -> Account:
        """The account in the path."""
        assert self.path_account is not None
        return self.path_account

    @property
    def is_staff(self) -> bool:
        """Whether the account is a reviewer or an owner, in the path's project if there is one."""
        return self.rank(self.path_project) >= RANKS["reviewer"]

    def rank(self, project: Project | None) -> int:
        """Return the rank of the account's role, or of its role in this project if that is higher."""
        assert self.session is not None
        rank = RANKS[self.me.role]
        return max(rank, RANKS["reviewer"]) if project is not None and project.id in self.session.reviews else rank

    def is_member(self, project: Project) -> bool:
        """Whether the account belongs to the project."""
        return self.session is not None and project.id in self.session.projects

    def text(self, name: str) -> str:
        """Return a field of the form, "" if it is missing or a file. Line ends are LF, which browsers send as CR LF."""
        value = self.form.get(name, "")
        return value.replace("\r\n", "\n") if isinstance(value, str) else ""

    def file(self, name: str) -> UploadFile | None:
        """Return an uploaded file, None if there is none."""
        value = self.form.get(name)
        return value if isinstance(value, UploadFile) else None


def has_form(request: Request) -> bool:
    """Whether the request says that its body is a form."""
    return request.method not in SAFE_METHODS and request.headers.get("content-type", "").lower().startswith(FORMS)


def service_of(request: Request) -> Service:
    """Return the service that the server was started with."""
    service: Service = request.app.state.service
    return service


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie. It names the port at which the browser sees this server.

    A browser sends cookies to every port of a host. So two servers on one host would overwrite each other's cookie if its name were the
    same. Under https the name also binds the cookie to this host.
    """
    name = "__Host-palate" if service_of(request).settings.secure else "palate"
    port = re.fullmatch(r".*:(\d{1,5})", request.headers.get("host", ""), flags=re.ASCII)
    return f"{name}-{port[1]}" if port else name


def find_session(request: Request) -> tuple[Session | None, str, bool]:
    """Return the session of a request, the hash of its token, and whether the token came as a key."""
    service = service_of(request)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        digest, is_key = hashed(key.strip(), "key"), True
    else:
        cookie = request.cookies.get(cookie_name(request), "")
        if not cookie:
            return None, "", False
        digest, is_key = hashed(cookie, "cookie"), False
    return service.ratings.session(digest, service.clock()), digest, is_key


def check_origin(request: Request) -> None:
    """Refuse a request that changes something if the browser says that another site began it.

    Raises:
        AccessError: 403.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    is_foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if site not in {"same-origin", "none"} or is_foreign:
        raise AccessError(403, "origin", "This request came from another site and was not carried out.")


@dataclass(frozen=True)
class Access:
    """The rule of a route: the lowest role that may use it."""

    least: Least

    async def __call__(self, request: Request) -> RequestContext:
        """Return the context of a request that its route has admitted (`palate.web.admission`)."""
        context: RequestContext = request.state.context
        return context

    def admit(self, request: Request, *, has_form: bool) -> RequestContext:
        """Return the context of a request that may go on, by its head alone. The token in a form must still be checked (`check_csrf`).

        Args:
            request: the request. Its body is not read.
            has_form: the body is a form, which may hold the CSRF token.

        Raises:
            AccessError: 401 nobody is signed in; 403 wrong CSRF token, site or role; 404 an object that this account may not see.
        """
        session, digest, is_key = find_session(request)
        if request.method not in SAFE_METHODS and not is_key:
            check_origin(request)
        if self.least == "public":
            return RequestContext(request, service_of(request), session, digest)
        if session is None:
            raise AccessError(401, "signin", "Sign in first.")
        needs_csrf = not is_key and request.method not in SAFE_METHODS
        context = RequestContext(request, service_of(request), session, digest, needs_csrf=needs_csrf)
        if needs_csrf and not has_form:
            check_csrf(request, FormData(), session)
        return self._with_path_objects(context)

    def _with_path_objects(self, context: RequestContext) -> RequestContext:
        path, ratings, me = context.request.path_params, context.service.ratings, context.me
        project = assignment = item = account = None
        try:
            if "project" in path:
                project = ratings.project(path["project"])
                _hide(unless=me.role == "owner" or context.is_member(project))
            if context.rank(project) < RANKS[self.least]:
                raise AccessError(403, "role", f"This is for {self.least}s.")
            if "assignment" in path:
                assignment = ratings.assignment(path["assignment"])
                _hide(unless=project is not None and (assignment.project, assignment.rater) == (project.id, me.id))
            if "item" in path:
                item = ratings.item(path["item"])
                _hide(unless=project is not None and item.project == project.id)
            if "account" in path:
                account = ratings.account(path["account"])
                _hide(unless=bool(account.name) and (account.id == me.id or me.role == "owner"))
        except DataError as error:
            raise AccessError(404, "missing", NOT_HERE) from error
        return replace(context, path_project=project, path_assignment=assignment, path_item=item, path_account=account)


def _hide(*, unless: bool) -> None:
    if not unless:
        raise AccessError(404, "missing", NOT_HERE)


def check_csrf(request: Request, form: FormData, session: Session) -> None:
    """Refuse a request without the session's CSRF token in a header or a field. Public routes call this if they act for a session.

    Raises:
        AccessError: 403.
    """
    token = request.headers.get("x-csrf-token") or form.get("csrf", "")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), session.csrf.encode()):
        raise AccessError(403, "csrf", "This page is too old. Go back, load it again, and repeat your last step.")
