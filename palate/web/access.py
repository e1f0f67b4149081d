"""Who may do what: every route names its rule, and objects in its path are looked up and checked in one place.

A route's dependency is `Access(least)`. It finds the account (by cookie, or by a key sent as `Authorization: Bearer`), checks the CSRF
token of a request that changes something, and for `project`, `assignment`, `item` and `account` in the path whether this account may touch
that very object. What somebody may not see does not exist for him: 404. A test walks all routes and fails for one without a rule.
"""

import hmac
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from palate.core import DataError
from palate.ratings import Account, Assignment, Item, Project, Session
from palate.web.credentials import hashed
from palate.web.service import Service

Least = Literal["public", "rater", "reviewer", "owner"]
RANKS: dict[str, int] = {"public": 0, "rater": 1, "reviewer": 2, "owner": 3}
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class AccessError(Exception):
    """A request that is not answered: status, a code for programs, words for people."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words


NOT_HERE = "There is no such page, or it is not for you."


@dataclass(frozen=True)
class RequestContext:
    """One request after its checks: who, and the objects named in its path."""

    request: Request
    service: Service
    session: Session | None = None
    token_hash: str = ""
    form: FormData = field(default_factory=FormData)
    project_found: Project | None = None
    assignment_found: Assignment | None = None
    item_found: Item | None = None
    account_found: Account | None = None

    @property
    def me(self) -> Account:
        """Who asks; only behind a rule other than `public`."""
        assert self.session is not None
        return self.session.account

    @property
    def project(self) -> Project:
        """The project in the path."""
        assert self.project_found is not None
        return self.project_found

    @property
    def assignment(self) -> Assignment:
        """The assignment in the path; it is this account's own."""
        assert self.assignment_found is not None
        return self.assignment_found

    @property
    def item(self) -> Item:
        """The item in the path; it lies in the project."""
        assert self.item_found is not None
        return self.item_found

    @property
    def account(self) -> Account:
        """The account in the path."""
        assert self.account_found is not None
        return self.account_found

    @property
    def is_staff(self) -> bool:
        """Whether it is a reviewer or an owner, in the project in the path where there is one."""
        return self.rank(self.project_found) >= RANKS["reviewer"]

    def rank(self, project: Project | None) -> int:
        """What the role of the account amounts to, or the one it has in this project where that is more."""
        assert self.session is not None
        mine = RANKS[self.me.role]
        return max(mine, RANKS["reviewer"]) if project is not None and project.id in self.session.reviews else mine

    def is_member(self, project: Project) -> bool:
        """Whether whoever asks belongs to the project."""
        return self.session is not None and project.id in self.session.projects

    def text(self, name: str) -> str:
        """A field of the form; "" when it is missing or a file."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def file(self, name: str) -> UploadFile | None:
        """An uploaded file; None when there is none."""
        value = self.form.get(name)
        return value if isinstance(value, UploadFile) else None


def service_of(request: Request) -> Service:
    """What the server was started with."""
    found: Service = request.app.state.service
    return found


def cookie_name(service: Service) -> str:
    """Under https the name binds the cookie to this very host."""
    return "__Host-palate" if service.settings.secure else "palate"


def find_session(request: Request) -> tuple[Session | None, str, bool]:
    """(session, hash of its token, whether it came by key) of a request."""
    service = service_of(request)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        digest, by_key = hashed(key.strip(), "key"), True
    else:
        cookie = request.cookies.get(cookie_name(service), "")
        if not cookie:
            return None, "", False
        digest, by_key = hashed(cookie, "cookie"), False
    return service.ratings.session(digest, service.clock()), digest, by_key


def check_origin(request: Request) -> None:
    """Refuses a request that changes something and that a browser says was begun by another site.

    Raises:
        AccessError: 403.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if site not in {"same-origin", "none"} or foreign:
        raise AccessError(403, "origin", "This request came from another site and was not carried out.")


@dataclass(frozen=True)
class Access:
    """The rule of a route: the least role it takes."""

    least: Least

    async def __call__(self, request: Request) -> RequestContext:
        """The visit, when it may go on.

        Raises:
            AccessError: 401 nobody is signed in, 403 wrong CSRF token, site or role, 404 an object that is not this account's to see.
        """
        if request.method in SAFE or not request.headers.get("content-type", "").startswith(FORMS):
            return await run_in_threadpool(self._entered, request, FormData())
        await run_in_threadpool(self._known, request)  # nobody's form is read before he is known
        form = await request.form(max_files=1, max_fields=100)
        return await run_in_threadpool(self._entered, request, form)

    def _known(self, request: Request) -> tuple[Session | None, str, bool]:
        session, digest, by_key = find_session(request)
        if request.method not in SAFE and not by_key:
            check_origin(request)
        if self.least != "public" and session is None:
            raise AccessError(401, "signin", "Sign in first.")
        return session, digest, by_key

    def _entered(self, request: Request, form: FormData) -> RequestContext:
        session, digest, by_key = self._known(request)
        if self.least != "public" and session is not None and not by_key and request.method not in SAFE:
            check_csrf(request, form, session)
        visit = RequestContext(request, service_of(request), session, digest, form)
        return visit if session is None else self._placed(visit)

    def _placed(self, visit: RequestContext) -> RequestContext:
        if self.least == "public":
            return visit
        path, ratings = visit.request.path_params, visit.service.ratings
        project = assignment = item = account = None
        try:
            if "project" in path:
                project = ratings.project(path["project"])
                _hidden(unless=visit.me.role == "owner" or visit.is_member(project))
            if visit.rank(project) < RANKS[self.least]:
                raise AccessError(403, "role", f"This is for {self.least}s.")
            if "assignment" in path:
                assignment = ratings.assignment(path["assignment"])
                _hidden(unless=project is not None and (assignment.project, assignment.rater) == (project.id, visit.me.id))
            if "item" in path:
                item = ratings.item(path["item"])
                _hidden(unless=project is not None and item.project == project.id)
            if "account" in path:
                account = ratings.account(path["account"])
                _hidden(unless=bool(account.name) and (account.id == visit.me.id or visit.me.role == "owner"))
        except DataError as error:
            raise AccessError(404, "missing", NOT_HERE) from error
        return RequestContext(visit.request, visit.service, visit.session, visit.token_hash, visit.form, project, assignment, item, account)


def _hidden(*, unless: bool) -> None:
    if not unless:
        raise AccessError(404, "missing", NOT_HERE)


def check_csrf(request: Request, form: FormData, session: Session) -> None:
    """Refuses a request without the session's CSRF token, in a header or a field. Public routes call it where they act for a session.

    Raises:
        AccessError: 403.
    """
    given = request.headers.get("x-csrf-token") or form.get("csrf", "")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise AccessError(403, "csrf", "This page has grown old. Go back, load it again, and repeat what you did.")
