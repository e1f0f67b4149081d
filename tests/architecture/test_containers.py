"""The files for containers fit the package and its command line. No container is started here."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from sqlalchemy import make_url

from palate.cli.parser import Parser
from palate.cli.rater_commands import label_parser
from palate.web.options import label_options
from tests.support.repository import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
STEPS = [
    (words[0], words[1])
    for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    if len(words := line.split(" ", 1)) == 2 and not line.startswith("#")
]
PARSERS: dict[str, Parser] = {"label": label_parser()}


def steps(kind: str) -> list[str]:
    return [text for word, text in STEPS if word == kind]


def documented() -> list[list[str]]:
    """Every command in a container that the page names, from the word `palate` on."""
    page = (ROOT / "docs" / "labelling.md").read_text().partition("## In containers")[2].partition("\n## ")[0]
    lines = [shlex.split(line) for line in page.splitlines() if line.startswith("docker compose ")]
    assert len(lines) > 6
    commands = [words[words.index("palate") :] for words in lines if words[2] in {"exec", "run"}]
    return [words[1:] if words[:2] == ["palate", "palate"] else words for words in commands]


def started() -> list[str]:
    return ["palate", *COMPOSE["services"]["palate"]["command"]]


@pytest.mark.parametrize("words", [started(), *documented()], ids=" ".join)
def test_every_command_is_one_that_palate_takes(words: list[str]) -> None:
    options = label_options(PARSERS[words[1]].parse(words[2:]))
    url = make_url(options.ratings)
    database = COMPOSE["services"][url.host]["environment"]
    assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert url.password is None  # it is in the environment, where no list of processes shows it
    assert database["POSTGRES_PASSWORD"] == COMPOSE["services"]["palate"]["environment"]["PGPASSWORD"]
    if options.backup is not None:
        assert str(options.backup.parent) == COMPOSE["services"]["palate"]["volumes"][0].partition(":")[2] == steps("WORKDIR")[-1]


def test_only_the_proxy_reaches_the_server() -> None:
    services = COMPOSE["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    options = label_options(label_parser().parse(started()[2:]))
    assert options.https
    target = services["proxy"]["command"][-1]
    assert target == f"{options.host}:{options.port}" == f"127.0.0.1:{options.port}"
    assert services["palate"]["network_mode"] == "service:proxy"
    assert f"http://{target}/signin" in services["palate"]["healthcheck"]["test"][-1]


def test_what_the_services_name_exists() -> None:
    services = COMPOSE["services"]
    for one in services.values():
        assert {name.partition(":")[0] for name in one["volumes"]} <= COMPOSE["volumes"].keys()
        assert set(one.get("depends_on", {})) <= services.keys()
    build = services["palate"]["build"]
    assert (ROOT / "docker" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "docker" / "compose.yaml").read_text()))
    page = (ROOT / "docs" / "labelling.md").read_text()
    assert variables == set(re.findall(r"(PALATE_\w+)=", page))


def test_the_image_holds_what_the_package_is_built_from() -> None:
    sources = [Path(word) for text in steps("COPY") for word in text.split()[:-1]]
    assert all((ROOT / path).exists() for path in sources)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    needed = {"pyproject.toml", "hatch_build.py", "README.md", *project["license-files"], *wheel["packages"], *wheel["force-include"]}
    assert needed <= {str(path) for path in sources}
    let_in = {line[1:] for line in (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {str(path) for path in sources} == let_in
    install = next(text for text in steps("RUN") if text.startswith("pip install"))
    extras = re.search(r"\[([\w,]+)\]", install)
    assert extras is not None
    assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()
    version = re.fullmatch(r"python:([\d.]+)-slim", steps("FROM")[0])
    assert version is not None
    assert SpecifierSet(project["requires-python"]).contains(version[1])
    assert json.loads(steps("ENTRYPOINT")[0])[0] in project["scripts"]
    assert json.loads(steps("CMD")[0]) == ["label", "--help"]
    assert steps("USER") == ["rater"]
