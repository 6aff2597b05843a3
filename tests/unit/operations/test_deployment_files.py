"""The deployment files name what there is: settings, files, ports, options, and each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from gateway.cli.application import app
from gateway.settings import Settings, load_settings

SAMPLES = ("embedded", "single-server", "listener", "worker")
UNITS = ("ecluse.service", "ecluse-worker@.service")


@pytest.fixture(scope="module")
def deploy(repository: Path) -> Path:
    return repository / "deploy"


def sample(deploy: Path, name: str) -> Settings:
    return load_settings(deploy / f"configuration/{name}.yaml", environment={})


def options(*words: str) -> set[str]:
    """The options of a command. Raises KeyError for a word that is no command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {name for each in command.params for name in each.opts}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_configuration_is_one(deploy: Path, name: str) -> None:
    settings = sample(deploy, name)
    assert not settings.identity.accept_test_roots
    assert settings.retention.policy().anything


def test_the_processes_of_a_region_fit_together(deploy: Path) -> None:
    listener, worker = sample(deploy, "listener"), sample(deploy, "worker")
    for one in ("journal", "broker", "identity", "retention", "destinations"):
        assert getattr(listener, one) == getattr(worker, one), one
    assert listener.worker.threads == 0
    assert worker.worker.threads > 0
    shut = [each.model_copy(update={"listen": ""}) for each in worker.sources]
    assert shut == [each.model_copy(update={"listen": ""}) for each in listener.sources]
    assert {str(getattr(each, "listen", "127.0.0.1:0")) for each in worker.sources} == {
        "127.0.0.1:0"
    }


# --- systemd ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_what_there_is(deploy: Path, name: str) -> None:
    unit = (deploy / "systemd" / name).read_text(encoding="utf-8")
    for command, given in re.findall(
        r"^Exec\w+=/opt/ecluse/bin/ecluse ([a-z ]+?) (--.*)$", unit, re.M
    ):
        assert set(re.findall(r"--[a-z-]+", given)) <= options(*command.split())
    assert re.search(r"^ExecReload=/bin/kill -HUP \$MAINPID$", unit, re.M)
    environment = dict(
        each.split("=", 1)
        for line in re.findall(r"^Environment=(.*)$", unit, re.M)
        for each in line.replace("%i", "1").replace("%S", "/var/lib").split()
    )
    used = "worker" if "@" in name else "single-server"
    settings = load_settings(deploy / f"configuration/{used}.yaml", environment=environment)
    (state,) = re.findall(r"^StateDirectory=(.*)$", unit, re.M)
    assert settings.state == Path("/var/lib") / state.replace("%i", "1")
    if settings.journal.blobs is not None:
        assert f"ReadWritePaths={settings.journal.blobs}\n" in unit


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_a_unit_and_finds_it_hardened(
    deploy: Path, tmp_path: Path, name: str
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    unit = tmp_path / name
    text = (deploy / "systemd" / name).read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/ecluse/bin/ecluse", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", unit],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (verified.returncode, verified.stderr) == (0, "")
    # The scale goes from 0 to 10; a unit without settings has 9.6. The option is in tenths.
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-2000:]


# --- containers ---------------------------------------------------------------------------


def test_the_image_is_built_of_what_there_is(deploy: Path, repository: Path) -> None:
    text = (deploy / "docker/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and line[0] not in "# "]
    stages = [rest for word, rest in lines if word == "FROM"]
    assert len(stages) == 2
    for image in stages:
        assert re.search(r":\d", image), f"{image} names no version"
    needed = []
    for word, rest in lines:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            needed += sources
    ignored = (deploy / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8")
    for each in needed:
        assert (repository / each).exists(), each
        assert any(each.startswith(kept) for kept in re.findall(r"^!(.*)$", ignored, re.M)), each
    built = {"gateway", "adapters", "deadletter", "record", "mappings"}
    assert built <= set(needed)
    (user,) = (rest for word, rest in lines if word == "USER")
    assert user.split(":")[0].isdigit()
    assert int(user.split(":")[0]) > 0
    assert any(word == "HEALTHCHECK" and "/readyz" in rest for word, rest in lines)
    (command,) = (yaml.safe_load(rest) for word, rest in lines if word == "CMD")
    assert "--config" in options(command[0])
    ports = next(rest for word, rest in lines if word == "EXPOSE").split()
    listened = {str(getattr(each, "listen", "")) for each in sample(deploy, "listener").sources}
    listened.add(sample(deploy, "listener").http.listen)
    assert set(ports) == {each.rpartition(":")[2] for each in listened if each}


CLIENTS = {"bookworm": 15, "trixie": 17}
"""The version of the package postgresql-client, by release of Debian."""


def test_the_image_can_back_up_the_database_beside_it(deploy: Path) -> None:
    """pg_dump refuses a server whose version is later than its own."""
    image = (deploy / "docker/Dockerfile").read_text(encoding="utf-8")
    (release,) = set(re.findall(r"^FROM python:[\d.]+-slim-(\w+)", image, re.M))
    tree = yaml.safe_load((deploy / "docker/compose.yaml").read_text(encoding="utf-8"))
    server = int(re.findall(r"postgres:(\d+)", tree["services"]["postgres"]["image"])[0])
    assert server <= CLIENTS[release]


def test_the_compose_file_names_what_there_is(deploy: Path) -> None:
    tree = yaml.safe_load((deploy / "docker/compose.yaml").read_text(encoding="utf-8"))
    services = tree["services"]
    assert set(services) == {"listener", "worker", "postgres", "redis"}
    secrets = {"token", "postgres-password", "pgpass"}
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("."):
                source = volume.split(":")[0]
                made_here = Path(source).name in secrets
                assert made_here or (deploy / "docker" / source).resolve().is_file(), source
            elif isinstance(volume, str):
                assert volume.split(":")[0] in tree["volumes"], volume
        assert set(service.get("secrets", [])) <= set(tree["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(services)
        if "image" in service and service["image"] != "ecluse":
            assert re.search(r":\d", service["image"]), service["image"]
    for name in ("listener", "worker"):
        settings = sample(deploy, name)
        mounted = " ".join(str(each) for each in services[name]["volumes"])
        assert f"{name}.yaml" in mounted
        assert str(settings.journal.blobs) in mounted
        assert str(settings.state) in mounted
        for url in (settings.journal.url, settings.broker.url):
            assert re.search(r"[@/](postgres|redis)[:/]", url), url
        port = services[name]["environment"].get("HEALTH_PORT", "8080")
        assert settings.http.listen.endswith(f":{port}")
    published = {each.rpartition(":")[2] for each in services["listener"]["ports"]}
    assert published == {"2575", "11112", "8080"}
    assert "ports" not in services["worker"]


# --- the operators' page ------------------------------------------------------------------


def test_the_operators_page_names_commands_settings_and_metrics_that_are_there(
    repository: Path,
) -> None:
    page = (repository / "docs/operations.md").read_text(encoding="utf-8")
    found = re.findall(r"(?:^|[`\s/])ecluse ((?:[a-z-]+ ?)+)((?:\s?--?[a-z-]+)*)", page)
    checked = 0
    for words, given in found:
        command: Any = typer.main.get_command(app)
        path: list[str] = []
        for word in words.split():
            if word not in getattr(command, "commands", {}):
                break
            command = command.commands[word]
            path.append(word)
        if path:
            assert set(re.findall(r"--[a-z-]+", given)) <= options(*path), (words, given)
            checked += 1
    assert checked >= 10
    sources = "".join(
        each.read_text(encoding="utf-8") for each in (repository / "gateway").rglob("*.py")
    )
    for metric in set(re.findall(r"`(ecluse_[a-z_]+)", page)):
        assert f'"{metric.removesuffix("_total")}"' in sources, metric
    for linked in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page):
        assert (repository / "docs" / linked).exists(), linked
