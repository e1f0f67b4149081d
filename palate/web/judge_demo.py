"""`palate judge`: judge some pairs of a finished pipeline, and see how the reward model changes."""

from __future__ import annotations

import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from palate.core import ConfigError
from palate.data.files import write_atomic
from palate.evaluation.own_agreement import JudgedFiles, own_judgments
from palate.evaluation.report.judged_page import render_judged
from palate.kitchen.rater_guideline import MEANINGS, kitchen_guideline
from palate.raters.people import DATABASE, guideline
from palate.ratings import Account, Project, Ratings, Task, open_ratings
from palate.runs.pointer import swap
from palate.runs.record import RunRecord, list_runs
from palate.web.app import create_app
from palate.web.browser import open_page
from palate.web.command import make_service
from palate.web.connections import server_config
from palate.web.listener import OWN_HOST
from palate.web.options import LabelOptions
from palate.web.own_machine import OwnJudging
from palate.web.service import DAY

PROJECT = "Which answer is better?"
PERSON = "you"
"""Name of the account that judges. It does not have a password, and the link that the command prints lets it in."""

KITCHEN = "palate.kitchen:judge"
RESULT = "judged-by-you.html"
POLL_SECONDS = 0.2
DELIVERY_SECONDS = 20.0
"""How long the browser has to fetch the last page before the server ends. The page is in a file too."""


@dataclass(frozen=True)
class JudgedPipeline:
    """The finished runs of a pipeline that `palate judge` builds on.

    Attributes:
        samples: the run that drew the completions.
        judged: the run that collected the crowd's judgments.
        reward: the run that trained the reward model.
        dimension: the first dimension that the crowd judged.
        gold: import path of the truth; None if nobody knows it.
    """

    samples: Path
    judged: Path
    reward: Path
    dimension: str
    gold: str | None

    @staticmethod
    def of(runs: Path) -> JudgedPipeline:
        """Find the runs in a folder. Raises ConfigError if one is missing."""
        (samples, _), (judged, record), (reward, _) = (first_done(runs, stage) for stage in ("sample", "collect", "reward"))
        dimensions, raters = record.config["dimensions"], record.config["from"]
        assert isinstance(dimensions, list)
        return JudgedPipeline(samples, judged, reward, str(dimensions[0]), raters.get("gold") if isinstance(raters, dict) else None)

    def guideline(self) -> str:
        """Return what the person has to know. In the kitchen, that is its facts."""
        is_kitchen = self.gold == KITCHEN and self.dimension in MEANINGS
        return kitchen_guideline(self.dimension) if is_kitchen else guideline((self.dimension,))


def judge(runs: Path, pairs: int, listener: socket.socket, say: Callable[[str], None]) -> int:
    """Serve the pairs, wait until all are judged, refresh the reward model with the judgments, and show what that changed.

    Returns:
        The exit status of the first command that failed, or 0.

    Raises:
        ConfigError: a finished run is missing in the folder, `pairs` is below 5, or somebody else made the project.
    """
    if pairs < 5:
        raise ConfigError(f"--pairs is {pairs}: give 5 or more, because some are kept for testing")
    pipeline = JudgedPipeline.of(runs)
    with closing(open_ratings(str(runs / DATABASE), create=True)) as ratings:
        account, project = own_project(ratings, pipeline)
        own = OwnJudging(secrets.token_urlsafe(24), account.id, project.id, runs / RESULT)
        own.result.unlink(missing_ok=True)
        with serving(listener, ratings, own) as address:
            return judge_and_learn(runs, pipeline, pairs, Judging(ratings, own, address), say)


@dataclass(frozen=True)
class Judging:
    """A running server, what it serves, and the address of its first page."""

    ratings: Ratings
    own: OwnJudging
    address: str


def judge_and_learn(runs: Path, pipeline: JudgedPipeline, pairs: int, judging: Judging, say: Callable[[str], None]) -> int:
    """Run `collect`, then `refresh`, then write the last page. Return the exit status of the first that failed, or 0."""
    mine, refreshed, link = (runs / name for name in ("judged-by-you", "reward-refreshed", "reward"))
    if not link.exists():
        swap(link, pipeline.reward)  # so that a rollback has a target
    sampling = {"samples": pipeline.samples, "pairs_per_prompt": 1, "limit": pairs, "held_out": 0, "dimensions": pipeline.dimension}
    people = {"from": "people", "from.database": runs / DATABASE, "from.project": PROJECT, "from.poll_seconds": 1}
    learning = {"reward": pipeline.reward, "preferences": mine, "replay": pipeline.judged, "held_out": pipeline.judged, "epochs": 3}
    # What collect prints is for people who have yet to start a server.
    collect = start(["collect", *options({**sampling, **people, "out": mine})], say, shows=False)
    status = status_of(collect, LinkNotice(judging, say))
    if status == 0:
        status = status_of(start(["refresh", *options({**learning, "samples": pipeline.samples, "out": refreshed})], say))
    if status:
        return status
    files = JudgedFiles(
        mine / "preferences.jsonl",
        [pipeline.judged / f"{name}.jsonl" for name in ("preferences", "held_out")],
        pipeline.samples / "samples.jsonl",
        refreshed / "rescored.jsonl",
    )
    judged = own_judgments(files, pipeline.gold, pipeline.dimension)
    facts = (
        ("how the reward model changed", str(refreshed / "refresh.html")),
        ("put it in use", shlex.join(["palate", "use", str(link), str(refreshed)])),
        ("this page", str(judging.own.result)),
    )
    write_atomic(judging.own.result, render_judged(judged, facts))
    for sentence in (*judged.sentences(), f"page: {judging.own.result}"):
        say(sentence)
    if judging.own.begun.is_set():
        judging.own.delivered.wait(DELIVERY_SECONDS)
    return 0


class LinkNotice:
    """Prints the link once there is something to judge."""

    def __init__(self, judging: Judging, say: Callable[[str], None]) -> None:
        self._judging, self._say = judging, say
        self._is_shown = False

    def __call__(self) -> None:
        """Look whether there are pairs without an answer, until the link is printed."""
        if self._is_shown:
            return
        progress = self._judging.ratings.progress(self._judging.own.project, time.time())
        left = progress.items - progress.complete
        if left:
            self._is_shown, address = True, self._judging.address
            self._say(f"{left} pairs wait for you. Ctrl-C stops and loses nothing; the same command goes on.\n\n    {address}\n")
            open_page(address)


def status_of(process: subprocess.Popen[bytes], meanwhile: Callable[[], None] = lambda: None) -> int:
    """Wait for a command and return its exit status. If this process is stopped, the command is stopped too and saves what it has."""
    try:
        while (status := process.poll()) is None:
            meanwhile()
            time.sleep(POLL_SECONDS)
        return status
    finally:
        if process.returncode is None:
            process.terminate()
            process.wait()


@contextmanager
def serving(listener: socket.socket, ratings: Ratings, own: OwnJudging) -> Iterator[str]:
    """A context in which the pages are served by a thread. It gives the address of the first page. At the end nobody stays signed in."""
    service = make_service(LabelOptions(), ratings)
    app = create_app(replace(service, settings=replace(service.settings, own=own)))
    server = uvicorn.Server(server_config(app, shutdown_seconds=2))
    ratings.end_sessions(own.account)  # of a command that was killed
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://{OWN_HOST}:{listener.getsockname()[1]}/judge/{own.key}"
    finally:
        server.should_exit = True
        thread.join()
        ratings.end_sessions(own.account)


def own_project(ratings: Ratings, pipeline: JudgedPipeline) -> tuple[Account, Project]:
    """Return the account that judges and its project; make both where they are missing.

    Raises:
        ConfigError: there is a project or an account of that name which this command did not make. Nobody may enter it without a password.
    """
    project = next((one for one in ratings.projects() if one.name == PROJECT), None)
    account = ratings.account_by_name(PERSON)
    joined = [] if account is None else [one.name for one in ratings.projects() if account in ratings.accounts(one.id)]
    has_password = account is not None and ratings.password_hash(account.id) is not None
    if has_password or (account is not None and account.role != "rater") or joined != ([] if project is None else [PROJECT]):
        raise ConfigError(
            f"the database of ratings holds an account {PERSON!r} or a project {PROJECT!r} that `palate judge` did not make, and nobody "
            f"may enter it without a password. Move {DATABASE} to another folder, or judge it with `palate label`."
        )
    now = time.time()
    account = account or ratings.add_account(PERSON, "rater", now)
    if project is None:
        # Nobody else waits for these pairs, so they are held for a day and no page says that their time has run out.
        task = Task(dimensions=(pipeline.dimension,), reason="off")
        project = ratings.add_project(Project(PROJECT, task, lease_seconds=DAY), now)
        ratings.set_guideline(project.id, pipeline.guideline(), now)
        ratings.join(project.id, account.id, now)
    return account, project


def options(settings: Mapping[str, object]) -> list[str]:
    """Return settings as words of a command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def first_done(runs: Path, stage: str) -> tuple[Path, RunRecord]:
    """Return the first finished run of a stage and its record. The controls of a pipeline come later in the list.

    Raises:
        ConfigError: no run of the stage is finished.
    """
    for directory, record in list_runs(runs):
        if record.stage == stage and record.status == "done":
            return directory, record
    raise ConfigError(f"{runs} does not hold a finished run of stage {stage}. Run the pipeline first: `palate demo` makes runs/kitchen.")


def start(words: list[str], say: Callable[[str], None], *, shows: bool = True) -> subprocess.Popen[bytes]:
    """Print a Palate command as you would type it, and start it. Its progress and errors are shown, its output if wanted."""
    say(f"$ palate {shlex.join(words)}")
    return subprocess.Popen([sys.executable, "-m", "palate", *words], stdout=None if shows else subprocess.DEVNULL)
