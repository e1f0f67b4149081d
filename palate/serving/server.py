"""`palate serve`: load the models, and answer until Ctrl-C or SIGTERM."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn
from starlette.routing import Mount
from starlette.types import ASGIApp

from palate.clients.http import key_header
from palate.config.artifacts import model_at
from palate.config.settings import nearest
from palate.core import ConfigError
from palate.core.process import computing_on, exempt_from_collection
from palate.data.rule_file import RuleFile
from palate.models.load import load_policy
from palate.rewards.combination import RewardModels
from palate.samplers.continuous import ContinuousSampler
from palate.serving.answer_scores import AnswerScorer
from palate.serving.answering import FilterSettings, ServedModel
from palate.serving.api_keys import ApiKeys, RequestRate
from palate.serving.api_routes import API_ROUTES
from palate.serving.audit_log import AuditLog, InferenceLog
from palate.serving.chat_page import PAGE_ROUTES
from palate.serving.content_rules import ContentRules
from palate.serving.drawing import Outbox
from palate.serving.feedback import FeedbackStore
from palate.serving.feedback_routes import FEEDBACK_ROUTES
from palate.serving.local_source import LocalSource
from palate.serving.model_follower import ModelFollower
from palate.serving.retrieval import PassageFinder
from palate.serving.serve_app import ApiGate, Serving, create_serve_app
from palate.serving.serve_options import PATTERNS, ServeOptions
from palate.serving.upstream_server import OPTION, UpstreamServer, only_model
from palate.serving.upstream_source import UpstreamSource
from palate.web.connections import allow_many_connections, server_config
from palate.web.own_machine import LOOPBACK
from palate.web.static_files import PackageFiles
from palate.web.view import STATIC

INPUT_PATTERNS = Path(__file__).with_name("input_patterns.yaml")
"""The input rules that Palate brings."""

SHUTDOWN_SECONDS = 30
"""How long requests under way may take when the server ends."""


def serve_model(options: ServeOptions, listener: socket.socket, say: Callable[[str], None]) -> None:
    """Answer at a socket until Ctrl-C or SIGTERM; requests under way are finished first.

    Raises:
        ConfigError: an option cannot be used.
        DataError: a file of rules or keys cannot be used.
        ModelError: a model cannot be loaded.
    """
    _check(options)
    allow_many_connections()
    with computing_on(options.device), opened(options, exempt_from_collection) as serving:
        name = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{name}:{listener.getsockname()[1]}"
        say(f"Palate serves {serving.model.name} at {address}/v1. {address} is a page to talk with it.")
        if options.host not in LOOPBACK and options.keys is None:
            say("Everybody who reaches this address can use it. --keys FILE asks for keys.")
        say("Ctrl-C stops it.")
        exempt_from_collection()
        uvicorn.Server(server_config(app_of(serving), shutdown_seconds=SHUTDOWN_SECONDS)).run(sockets=[listener])


def app_of(serving: Serving) -> ASGIApp:
    """Return the application with all routes."""
    static = Mount("/static", PackageFiles(directory=STATIC), name="static")
    return create_serve_app(serving, (*API_ROUTES, *FEEDBACK_ROUTES, *PAGE_ROUTES, static))


@contextmanager
def opened(options: ServeOptions, after_swap: Callable[[], None] = lambda: None) -> Iterator[Serving]:
    """A context with the loaded models and what stands around them. Raises as `serve_model`.

    Args:
        options: the command's.
        after_swap: called when models have gone because others took their place.
    """
    with ExitStack() as stack:
        serving = _serving(options, stack, after_swap)
        stack.callback(lambda: serving.model.close())
        yield serving


def _serving(options: ServeOptions, stack: ExitStack, after_swap: Callable[[], None]) -> Serving:
    """Load everything. Nothing but the result may hold the model, which another one replaces; the stack closes what stands around it."""
    settings = FilterSettings(options.on_breach, options.attempts, options.refusal)
    keys = ApiKeys(options.keys) if options.keys is not None else None
    rate = RequestRate(options.rate) if options.rate is not None else None
    rules = _rules(options)
    for one in rules:
        if one is not None:
            stack.callback(one.close)
    finder = PassageFinder(options.retrieve, options.timeout) if options.retrieve is not None else None
    audit, inferences, feedback = None, None, None
    if options.store is not None:
        audit, inferences = AuditLog(options.store, time.time), InferenceLog(options.store, time.time)
        feedback = stack.enter_context(FeedbackStore(options.store, inferences, time.time))
    make_source = _sources(options)
    scorer, source = _scorer(options), make_source()  # a source has a thread, so it comes when nothing else can fail
    name = options.name or (source.server.model if isinstance(source, UpstreamSource) else _name(options.model))
    model = ServedModel(name, source, scorer, *rules, settings, audit, inferences, finder)
    gate = ApiGate(keys, rate, LOOPBACK if options.host in LOOPBACK else None)

    def loaded_again(before: ServedModel) -> ServedModel:
        return replace(before, scorer=_scorer(options), source=make_source())

    own = (options.model,) if options.model else ()
    return Serving(model, gate, feedback, ModelFollower((*own, *options.reward), loaded_again, after_swap))


def _sources(options: ServeOptions) -> Callable[[], LocalSource] | Callable[[], UpstreamSource]:
    """Return what makes a source of answers, again whenever a link names something else."""
    if options.upstream is None:
        outbox = Outbox()
        return lambda: _local(options, outbox)
    server = UpstreamServer(options.upstream, options.upstream_model, key_header(OPTION, options.key_variable), options.timeout)
    if not server.model:
        server = replace(server, model=only_model(server))
    return lambda: UpstreamSource(server, slots=options.slots)


def _local(options: ServeOptions, outbox: Outbox) -> LocalSource:
    """Load the policy, and start its thread."""
    policy = load_policy(model_at(options.model), dtype=options.dtype)
    return LocalSource(ContinuousSampler(policy, slots=options.slots, context=options.context, after_step=outbox.flush), outbox)


def _scorer(options: ServeOptions) -> AnswerScorer | None:
    """Load the reward models."""
    return AnswerScorer(RewardModels.load(options.reward)) if options.reward else None


def _check(options: ServeOptions) -> None:
    if options.upstream is not None and options.model:
        raise ConfigError(f"--upstream takes the place of MODEL, and both are given. Leave out {options.model!r} or --upstream.")
    if options.upstream is None and (options.upstream_model or options.key_variable):
        raise ConfigError("--upstream_model and --key_variable are about the server of --upstream. Name its address too.")
    if options.upstream is not None and (options.context is not None or options.dtype != "auto"):
        raise ConfigError("--context and --dtype are about a model of this server. The server of --upstream has settings of its own.")
    has_rules = options.output_rules is not None or bool(options.input_rules)
    if has_rules and options.store is None:
        raise ConfigError("rules need --store DIR: every decision goes into its audit log")
    if options.rule_model is not None and options.output_rules is None:
        raise ConfigError("--rule_model decides about the rules of --output_rules. Name their file too.")
    if options.floors and not has_rules:
        raise ConfigError("--floors are about the rules of --output_rules or --input_rules. Name their file too.")


def _rules(options: ServeOptions) -> tuple[ContentRules | None, ContentRules | None]:
    """Return the rules for questions and those for answers; a floor belongs to the file that has its rule."""
    given = None
    if options.input_rules:
        given = INPUT_PATTERNS if options.input_rules == PATTERNS else Path(options.input_rules)
    both = {place: RuleFile.read(place) for place in (given, options.output_rules) if place is not None}
    known = [rule.id for file in both.values() for rule in file.rules]
    for name in options.floors:
        if name not in known:
            raise ConfigError(f"--floors: there is no rule {name!r}. {nearest(name, known)}")
    own = {place: {rule.id: options.floors[rule.id] for rule in file.rules if rule.id in options.floors} for place, file in both.items()}
    with ExitStack() as stack:
        asked = None if given is None else ContentRules.open(given, "input", None, own[given])
        if asked is not None:
            stack.callback(asked.close)
        out = options.output_rules
        answered = None if out is None else ContentRules.open(out, "output", options.rule_model, own[out])
        stack.pop_all()
    return asked, answered


def _name(path: str) -> str:
    """Return the name of a model directory, run or link; a hub's name stays as it is."""
    place = Path(path)
    return place.absolute().name if place.exists() else path
