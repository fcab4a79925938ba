"""A registry with a login, and secrets of a service: what works with them, and that nobody else sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from changes import played
from described import SETTINGS, described, ids
from scenario import Scenario

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
SECRET_TEXTS = ["pear-tree-31", "plum-tree-32", PASSWORD]
# Everywhere but in what is the container's own: as somebody without rights, and all that runs.
SCAN = """
find /etc /home /opt /run /srv /tmp /usr/local /var -xdev -type f -size -2M -readable 2>/dev/null |
  setpriv --reuid=65534 --regid=65534 --clear-groups xargs -d '\\n' grep -lsF {secret}
for file in /proc/[0-9]*/cmdline; do
  tr '\\0' ' ' 2>/dev/null <$file | grep -F {secret} | grep -vF 'grep ' | grep -vF SCAN
done
true
"""


def seen(host: Any, secret: str) -> list[str]:
    """Return where on a host somebody without rights finds a secret, and the command lines that hold it."""
    return [line for line in host.check_output(f": SCAN; {SCAN.format(secret=secret)}").splitlines() if line]


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


def test_login_is_needed_and_secrets_stay_secret(scenario: Scenario, image: str) -> None:
    url = f"http://{scenario.addresses['balancer']}"
    before = ids(scenario, "shop")
    registry = image.partition("/")[0]
    shop = {"image": image, "build": None, "version": None} | SECRETS

    def deploy(password: str, wanted: int) -> str:
        logins = {"site_registries": {registry: {"username": USER, "password": password}}}
        extra = json.dumps(logins if password else {})
        with described(shop=shop) as changed:
            return played(scenario, "deploy.yml", "-i", changed, "-vvv", "--diff", "-e", extra, wanted=wanted)

    said = deploy("", 2)
    assert f"backend-1 can't pull {image}, and nothing was stopped." in said
    assert f"add {registry} to site_registries" in said
    said = deploy("wrong", 2)
    assert f"check the login of {registry} in site_registries" in said
    assert ids(scenario, "shop") == before
    said = deploy(PASSWORD, 0)
    host = scenario.host("backend-2")
    assert host.check_output("docker exec backend_shop cat /run/secrets/database_url").endswith("@db/shop")
    assert host.check_output("docker exec backend_shop printenv KEY") == "plum-tree-32"
    assert requests.get(url, timeout=5).status_code == 200
    found = {secret: seen(host, secret) for secret in SECRET_TEXTS}
    assert found == {secret: [] for secret in SECRET_TEXTS}
    # A command line that is given to Ansible is the operator's; what Ansible says of it is not.
    assert [secret for secret in SECRET_TEXTS if secret in said] == []
    assert "pear-tree-31" not in host.check_output("docker inspect backend_shop")
    # The scan would find them.
    host.check_output("echo plum-tree-32 >/var/tmp/planted && systemd-run --quiet sh -c 'sleep 60; : pear-tree-31'")
    assert seen(host, "plum-tree-32") == ["/var/tmp/planted"]
    assert "pear-tree-31" in " ".join(seen(host, "pear-tree-31"))
    host.check_output("rm /var/tmp/planted")


def test_login_that_is_no_longer_named_is_forgotten(scenario: Scenario, image: str) -> None:
    host = scenario.host("backend-1")
    logins = "/var/lib/evenkeel/registries/config.json"
    assert image
    assert host.file(logins).mode == 0o600
    played(scenario, "deploy.yml", "-i", str(SETTINGS), "-e", "service=shop")
    assert not host.file(logins).exists
    # And the secrets that no container has any more.
    assert not host.file("/var/lib/evenkeel/backend_shop/secrets").exists
