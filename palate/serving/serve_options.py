"""The options of `palate serve`. This module imports nothing heavy, so that `--help` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from palate.config.dimension_numbers import read_numbers

PATTERNS = "patterns"
"""The word for the input rules that Palate brings, in place of a file."""


@dataclass(frozen=True)
class ServeOptions:
    """The options of `palate serve`.

    Attributes:
        model: the model that answers, or the run that trained it; "" with `upstream`.
        upstream: address of another server with OpenAI's API, which draws the answers.
        upstream_model: the name of the model there; by default the only one.
        key_variable: the environment variable with the key of that server.
        timeout: seconds that the other server, or the function of `retrieve`, may say nothing.
        retrieve: import path of a function that finds passages for a question.
        name: its name in the API; by default that of its directory.
        host: address to listen on; 127.0.0.1 is this machine only.
        port: port to listen on; 0 takes a free one.
        dtype: the type that the models compute in.
        device: where they compute.
        slots: completions that are decoded together.
        context: tokens of a prompt and its completion together, at most; None takes what the model takes, up to 4096.
        reward: reward models that rank and score.
        output_rules: a file of rules that answers must keep.
        input_rules: a file of rules that questions must keep, or `patterns`.
        rule_model: the classifier that decides about rules without a program.
        floors: the least probability that a rule is kept, by its id.
        on_breach: what happens to an answer that breaks a rule.
        attempts: how often it is drawn again.
        refusal: what is sent in place of an answer.
        store: folder for answers, feedback and the audit log.
        keys: file of API keys; None lets everybody ask.
        rate: requests per minute and caller; None sets no limit.
    """

    model: str = ""
    upstream: str | None = None
    upstream_model: str = ""
    key_variable: str | None = None
    timeout: float = 120.0
    retrieve: str | None = None
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    slots: int = 64
    context: int | None = None
    reward: tuple[str, ...] = ()
    output_rules: Path | None = None
    input_rules: str = ""
    rule_model: str | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    on_breach: Literal["refuse", "regenerate"] = "refuse"
    attempts: int = 2
    refusal: str = "I cannot answer that."
    store: Path | None = None
    keys: Path | None = None
    rate: int | None = None


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    no = ServeOptions()
    parser.add_argument("model", metavar="MODEL", nargs="?", default="", help="a policy, or the run that trained it")
    parser.add_argument("--upstream", metavar="URL", help="in place of MODEL: another server with OpenAI's API draws the answers")
    parser.add_argument("--upstream_model", default="", metavar="NAME", help="the model there (default: its only one)")
    parser.add_argument("--key_variable", metavar="NAME", help="environment variable with the key of the upstream server")
    parser.add_argument(
        "--timeout", type=float, default=no.timeout, metavar="S", help="longest silence of --upstream or --retrieve (default: %(default)g)"
    )
    parser.add_argument("--retrieve", metavar="PATH", help="function module:name that finds passages for a question")
    parser.add_argument("--name", default="", help="its name in the API (default: that of its directory)")
    parser.add_argument("--host", default=no.host, help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=no.port, metavar="N", help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default=no.dtype, help="computes in (default: auto)")
    parser.add_argument("--device", default=no.device, help="cpu, cuda or auto (default: auto)")
    parser.add_argument("--slots", type=int, default=no.slots, metavar="N", help="completions decoded together (default: %(default)s)")
    parser.add_argument("--context", type=int, metavar="N", help="most tokens of prompt and completion (default: the model's, up to 4096)")
    parser.add_argument("--reward", nargs="+", default=[], metavar="PATH", help="reward models for best_of and /v1/score")
    parser.add_argument("--output_rules", type=Path, metavar="FILE", help="rules that answers must keep; needs --store")
    parser.add_argument("--input_rules", default="", metavar="FILE", help=f"rules that questions must keep, or the word {PATTERNS}")
    parser.add_argument("--rule_model", metavar="PATH", help="classifier that decides about output rules without a program")
    parser.add_argument(
        "--floors", nargs="+", default=[], metavar="WORD", help="least probability of keeping, as RULE=NUMBER (default: 0.5)"
    )
    parser.add_argument("--on_breach", choices=("refuse", "regenerate"), default=no.on_breach, help="for answers (default: %(default)s)")
    parser.add_argument("--attempts", type=int, default=no.attempts, metavar="N", help="times to draw again (default: %(default)s)")
    parser.add_argument("--refusal", default=no.refusal, metavar="TEXT", help='sent in place of an answer (default: "%(default)s")')
    parser.add_argument("--store", type=Path, metavar="DIR", help="keep answers, feedback and the audit log here")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="ask for API keys, of which this file has the hashes")
    parser.add_argument("--new_key", metavar="NAME", help="add a key to --keys, show it once, and stop")
    parser.add_argument("--rate", type=int, metavar="N", help="requests per minute and key, or address (default: no limit)")


def serve_options(arguments: argparse.Namespace) -> ServeOptions:
    """Return the options in parsed arguments. Raises ConfigError where a floor is not a number."""
    own = {name: value for name, value in vars(arguments).items() if name not in {"new_key", "floors", "reward"}}
    return ServeOptions(**own, floors=read_numbers(arguments.floors, "floors"), reward=tuple(arguments.reward))
