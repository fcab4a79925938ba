"""A registry with a login, and secrets of a service: what works with them, and that nobody else sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from changes import played
from described import DESCRIBED, SETTINGS, described, ids
from leaks import seen
from scenario import Scenario

from evenkeel.lab.authority import Authority

USER, PASSWORD = "lab", "open-sesame-77"
# The line of `htpasswd -nB` for the two; the registry knows no other kind.
LOGIN = f"{USER}:$2y$05$1xDyLa1dIY.4x/mJzQU.Je3kydT0FXOz0aREwHCSn0C.2AmhQ98oC"
REGISTRY = """
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: 0.0.0.0:5000}
auth: {htpasswd: {realm: lab, path: /etc/docker/registry/users}}
"""
SECRETS = {"secrets": {"database_url": "postgres://shop:pear-tree-31@db/shop"}, "secret_env": {"KEY": "plum-tree-32"}}
# What the scenario sets up, without the engine: descriptions alone don't say which registry has no TLS.
SITE = ("site.yml", "--skip-tags", "docker,cpu_monitor,pushgateway,prometheus,grafana")
SECRET_TEXTS = ["pear-tree-31", "plum-tree-32", PASSWORD]


@pytest.fixture(scope="module")
def image(scenario: Scenario) -> Iterator[str]:
    """The shop's image in a registry that wants a login; no backend has it under that name."""
    balancer, backend = scenario.host("balancer"), scenario.host("backend-1")
    name = f"{scenario.addresses['balancer']}:5000/team/shop:1.0"
    balancer.check_output("DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker-registry")
    balancer.check_output("printf %%s %s >/etc/docker/registry/config.yml", REGISTRY)
    balancer.check_output("printf %%s %s >/etc/docker/registry/users && systemctl restart docker-registry", LOGIN)
    login = "export DOCKER_CONFIG=$(mktemp -d) && printf %%s %s | docker login --username %s --password-stdin %s && "
    push = "docker tag $(docker inspect --format '{{{{.Image}}}}' backend_shop) %s && docker push --quiet %s && "
    push = push.replace("{{{{", "{{").replace("}}}}", "}}")
    clean = "docker image rm %s && rm -r $DOCKER_CONFIG"
    backend.check_output(login + push + clean, PASSWORD, USER, name.partition("/")[0], name, name, name)
    yield name
    balancer.check_output("systemctl disable --now docker-registry")


def test_login_is_needed_and_secrets_stay_secret(scenario: Scenario, image: str, tmp_path: Path) -> None:
    url = f"http://{scenario.addresses['balancer']}"
    before = ids(scenario, "shop")
    certificate = tmp_path / "site.pem"
    certificate.write_text(Authority().pem("pictures.example.com", "www.example.com"))
    (key,) = re.findall(r"PRIVATE KEY-----\n(\S+)", certificate.read_text())
    registry = image.partition("/")[0]
    shop = {"image": image, "build": None, "version": None} | SECRETS
    build = {**DESCRIBED["pictures"]["build"], "registry": f"{registry}/team/pictures"}
    pictures = {"build": build, "version": "2.0"}

    def run(*playbook: str, password: str = "", wanted: int = 2) -> str:
        logins = {"site_registries": {registry: {"username": USER, "password": password}}}
        given = (logins if password else {}) | {"haproxy_tls_file": str(certificate)}
        (tmp_path / "given.json").write_text(json.dumps(given))
        with described(shop=shop, pictures=pictures) as changed:
            extra = f"@{tmp_path}/given.json"
            return played(scenario, *playbook, "-i", changed, "-vvv", "--diff", "-e", extra, wanted=wanted)

    said = run("deploy.yml")
    assert f"backend-1 can't pull {image}, and nothing was stopped." in said
    assert f"add {registry} to site_registries" in said
    said = run("deploy.yml", password="wrong")
    assert f"check the login of {registry} in site_registries" in said
    assert ids(scenario, "shop") == before
    said = run(*SITE, password=PASSWORD, wanted=0)
    is_of_one_build(scenario, "pictures", "2.0", build["registry"])
    host = scenario.host("backend-2")
    assert host.check_output("docker exec backend_shop cat /run/secrets/database_url").endswith("@db/shop")
    assert host.check_output("docker exec backend_shop printenv KEY") == "plum-tree-32"
    # With TLS, plain text is sent there.
    assert requests.get(url, timeout=60, allow_redirects=False).status_code == 308
    secrets = [*SECRET_TEXTS, key]
    found = {
        (name, secret): [
            # What the environment holds, who may ask the engine sees: docs/services.md says so.
            line
            for line in seen(scenario.host(name), secret)
            if not ("docker inspect" in line and secret == "plum-tree-32")
        ]
        for name in scenario.addresses
        for secret in secrets
    }
    assert {where: lines for where, lines in found.items() if lines} == {}
    assert [secret for secret in secrets if secret in said] == []
    # The scan would find them.
    host.check_output("echo plum-tree-32 >/var/tmp/planted && systemd-run --quiet sh -c 'sleep 60; : pear-tree-31'")
    assert seen(host, "plum-tree-32")[0] == "/var/tmp/planted"
    assert "docker inspect" in " ".join(seen(host, "plum-tree-32"))
    assert "pear-tree-31" in " ".join(seen(host, "pear-tree-31"))
    host.check_output("rm /var/tmp/planted")


def is_of_one_build(scenario: Scenario, service: str, version: str, registry: str) -> None:
    """One host has built the service's image and handed it over: a second build would have an id of its own."""
    look = f"docker inspect backend_{service} --format '{{{{.Image}}}} {{{{.Config.Image}}}}'"
    (running,) = {scenario.host(name).check_output(look) for name in scenario.backends}
    assert f" evenkeel.local/backend_{service}:{version}-" in running
    # It has no second name, which would keep it once it is no longer needed.
    named = [scenario.host(name).check_output("docker images --quiet %s", registry) for name in scenario.backends]
    assert named == [""] * len(scenario.backends)


def test_login_that_is_no_longer_named_is_forgotten(scenario: Scenario, image: str) -> None:
    host = scenario.host("backend-1")
    logins = "/var/lib/evenkeel/registries/config.json"
    assert image
    assert host.file(logins).mode == 0o600
    played(scenario, *SITE, "-i", str(SETTINGS))
    assert not host.file(logins).exists
    # And the secrets that no container has any more.
    assert not host.file("/var/lib/evenkeel/backend_shop/secrets").exists
