"""Filters of a roll-out: which image comes before which, how hosts fared, and how that reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Outcome = Mapping[str, Any]

# The service that is the guide's API, and the images that are built of it.
GUIDE, OWN_IMAGES = "app", "evenkeel.local/backend_app:"
_GUIDES = "backend_app_version or backend_app_image"
# Built here, of whichever service.
_BUILT = re.compile(r"evenkeel\.local/backend_[a-z0-9-]+:")


def releases_after(recorded: Mapping[str, str], former: str, new: str) -> dict[str, str]:
    """Return ``{"current": image, "previous": image}`` after a swap that succeeded.

    Args:
        recorded: the same before it; empty where no swap was recorded yet.
        former: the image the swap replaced.
        new: the image it started.
    """
    # What was recorded counts, not what was replaced: that may be what a run that was cut off has left.
    current = recorded.get("current") or former
    if current == new:
        # Only settings changed, or a cut-off run was taken back.
        return {"current": new, **{key: image for key, image in recorded.items() if key == "previous"}}
    return {"current": new, "previous": current}


def release_before(recorded: Mapping[str, str], running: str) -> str:
    """Return the image that ran before ``running``; empty where none is recorded."""
    current = recorded.get("current", "")
    return recorded.get("previous", "") if running == current else current


def roll_back_plan(ran: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return ``{"target": image, "problem": sentence}`` of a rollback; one of the two is empty.

    A roll-out that was killed half-way is taken back; a rollback that was, is finished.

    Args:
        ran: by host, ``running`` (image), ``former`` (image of the container that a roll-out has put aside; empty where
            none) and ``recorded`` (as :func:`releases_after` returns it; of a roll-out that is not over, also ``next``,
            what it brings, and ``back``, whether it was a rollback).
    """
    if not ran:
        return {"target": "", "problem": "No host of this run has the service: name others with --limit."}
    ways: dict[str, str] = {}
    begun: set[str] = set()
    befores: set[str] = set()
    taken_back = True
    for host, held in ran.items():
        running, former, recorded = str(held["running"]), str(held["former"]), held["recorded"]
        # What ran before the roll-out that is not over yet, if one is.
        base = running if running and running == recorded.get("current") else former or running
        if not base:
            return {
                "target": "",
                "problem": f"{host} has no container of the application, so there is nothing to roll back: run "
                "deploy.yml or site.yml first, or name the other hosts with --limit.",
            }
        before = release_before(recorded, base)
        ways[host] = f"{short_image(base)} -> {short_image(before)}"
        befores.add(before)
        if running != base:
            begun.add(running or str(recorded.get("next", "")))
            taken_back = taken_back and bool(recorded.get("back", running in {before, ""}))
    if len(set(ways.values())) > 1:
        return {
            "target": "",
            "problem": f"The backends do not run the same versions ({'; '.join(sorted(set(ways.values())))}), as after "
            "a roll-out that was cut off: run deploy.yml or site.yml first, or name hosts with --limit.",
        }
    if begun and (begun - {""} != befores or not taken_back):
        return {"target": base, "problem": ""}
    missing = next((host for host, held in ran.items() if not before), "")
    if missing:
        only = f"nothing but {short_image(base)} was ever rolled out there"
        return {"target": "", "problem": f"{missing} has no previous version: {only}."}
    return {"target": before, "problem": ""}


def _swaps(variables: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return variables.get("backend_app_swap") or {}


def only_ours(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether every backend runs the guide's API as it is here, and still does when the roll-out has ended.

    Args:
        names: the backends.
        hostvars: Ansible's ``hostvars``. Of a host that is not part of this run, what its settings ask for counts.
    """
    listed = [str(name) for name in names]
    failed = bool(roll_out_failures(roll_out_outcomes(listed, hostvars)))
    images: list[str] = []
    for name in listed:
        variables = hostvars[name]
        swap, ran = _swaps(variables).get(GUIDE), variables.get("backend_app_ran")
        if not swap:
            images.append(str(ran["running"] if ran else variables.get("backend_app_image") or ""))
            continue
        result = (variables.get("rolling_update_outcome") or {}).get("result", "waiting")
        old = result in {"failed", "put back"} or (result == "waiting" and failed)
        images += [swap["from"]] if old else [swap["to"]] if result == "swapped" else [swap["from"], swap["to"]]
    return all(image.startswith(OWN_IMAGES) for image in images if image)


def _in_order(names: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Return hosts in the inventory's order: a group that a run makes has them as they came."""
    wanted = {str(name) for name in names}
    return [str(name) for name in hostvars if str(name) in wanted]


def roll_out_order(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the hosts of a roll-out in the inventory's order, whichever was compared first.

    Those that a killed one has left half-way come before the others: they may not be UP.
    """

    def whole(name: str) -> bool:
        return not any(swap.get("former", False) for swap in _swaps(hostvars[name]).values())

    return sorted(_in_order(names, hostvars), key=whole)


def brings_foreign(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a roll-out brings another image for the guide's API, of whose answer times nothing is known."""
    swaps = (_swaps(hostvars[name]).get(GUIDE) or {} for name in names)
    return any(swap.get("guide") and not str(swap["to"]).startswith(OWN_IMAGES) for swap in swaps)


def unprepared(balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why an image that is not ours can't be brought out, a sentence; empty where every balancer is prepared.

    Args:
        balancers: their names.
        hostvars: Ansible's ``hostvars``, with ``rolling_prepared`` of each balancer: empty, or what went wrong.
    """
    texts = {name: hostvars[name].get("rolling_prepared", "it is not part of this run (--limit)") for name in balancers}
    said = [f"{name}: {text}" for name, text in texts.items() if text]
    if not said:
        return ""
    return (
        "HAProxy still expects the answer times of our own application, and would cut off what takes longer: "
        + "; ".join(said)
        + "."
    )


def failure_text(result: Mapping[str, Any]) -> str:
    """Return what a failed task said: its items' messages where it is a loop, its own otherwise."""
    if result.get("unreachable"):
        return f"unreachable: {result.get('msg', '')}".strip(" :")
    items = [item for item in result.get("results", []) if item.get("failed") or item.get("unreachable")]
    texts = [failure_text(item) for item in items] or [str(result.get("msg") or result.get("stderr") or "no reason")]
    return " ".join(" ".join(text.split()) for text in texts)


def log_text(lines: Iterable[str], most: int = 20) -> str:
    """Return the last lines of a log, indented, so that Ansible prints them as lines.

    It prints a text in one line, with backslashes in it, where any of its lines ends in a space or holds what is not
    printable: colours, tabs, carriage returns.
    """
    clean = (re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", line).expandtabs(4) for line in lines)
    printable = ("".join(sign for sign in line if sign.isprintable()).rstrip() for line in clean)
    kept = [f"    {line}" for line in printable if line][-most:]
    return "\n".join(["The container's last log lines:", *(kept or ["    (none)"])])


def roll_out_outcomes(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how each host fared, in the inventory's order.

    Each is ``{"host": str, "swaps": {service: {"from": image, "to": image}}, "result": str, "text": str,
    "left_out": [balancer, …]}``.

    ``result`` is ``waiting`` (not its turn yet, or never), ``swapped``, ``failed`` (the old container is back),
    ``put back`` (swapped, then undone) or ``broken`` (the old container could not be put back). ``left_out`` are the
    balancers where somebody had drained it before, which stays so. Where the host was asked after a roll-out that was
    undone, ``runs`` is the image that runs there, by service (empty: none, or no answer).
    """
    outcomes = []
    for name in _in_order(names, hostvars):
        variables = hostvars[name]
        outcome = variables.get("rolling_update_outcome") or {"result": "waiting", "text": ""}
        swaps = {service: {"from": swap["from"], "to": swap["to"]} for service, swap in _swaps(variables).items()}
        left_out = list(variables.get("rolling_update_left_out") or [])
        answers = (variables.get("rolling_update_runs") or {}).get("results")
        said = {answer["item"]: str(answer.get("stdout", "")).strip() for answer in answers or []}
        asked = {} if answers is None else {"runs": said}
        outcomes.append({"host": name, "swaps": swaps, "left_out": left_out, **outcome, **asked})
    return outcomes


def roll_out_failures(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes of hosts where something failed."""
    return [outcome for outcome in outcomes if outcome["result"] in {"failed", "broken"}]


def roll_out_left_out(outcomes: Iterable[Outcome]) -> str:
    """Return which hosts stay drained because they were before the roll-out, a sentence; empty where none does."""
    names = [outcome["host"] for outcome in outcomes if outcome["left_out"]]
    if not names:
        return ""
    return (
        f"{', '.join(names)} got no requests before this run, and gets none now: "
        + " ".join(f"ready.yml -e target={name}" for name in names)
        + " ends that."
    )


def services_up(services: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[str]]:
    """Return by service which of its servers are among ``names``.

    Args:
        services: with their ``servers``.
        names: of hosts.
    """
    chosen = set(names)
    return {
        service["name"]: [server["name"] for server in service["servers"] if server["name"] in chosen]
        for service in services
    }


def ran_here(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the backends that this run has looked at, and those alone: others may be down for reasons of their own."""
    return [str(name) for name in names if "backend_app_host" in hostvars[name]]


def lock_note(held: Mapping[str, str], drained: Sequence[str]) -> str:
    """Return what to do about a lock whose run goes on, or was killed elsewhere; a sentence.

    Args:
        held: what its file says.
        drained: the hosts that are drained by it.
    """
    who = f"{held.get('holder', 'Somebody unknown')} has held the lock since {held.get('since', 'an unknown time')}"
    out = f" and has drained {', '.join(drained)}" if drained else ""
    return (
        f"{who}{out}: wait until that run has ended. Should it be gone, say so with -e deploy_break_lock=true, "
        "and what it has left is mended."
    )


def out_note(servers: Iterable[Mapping[str, Any]], names: Iterable[str]) -> str:
    """Return which backends get no requests from a balancer, and why; empty where all do.

    Args:
        servers: as the module haproxy_server reports them.
        names: the backends of the inventory.
    """
    listed = [server for server in servers if server["name"] in set(names)]
    several = len({server["backend"] for server in listed}) > 1
    out = []
    for server in listed:
        who = f"{server['name']} of {server['backend']}" if several else server["name"]
        if server["admin"] == "ready" and server["status"].split(" ")[0] != "UP":
            out.append(f"{who} is {server['status']}: {server['last_check'] or 'not checked yet'}.")
        elif server["admin"] != "ready":
            out.append(
                f"{who} gets no requests, as somebody has ordered: ready.yml -e target={server['name']} ends that."
            )
    return " ".join(out)


def short_image(image: str) -> str:
    """Return an image's tag where it was built here, the whole reference otherwise."""
    return _BUILT.sub("", image, 1) or "nothing"


def _services(outcomes: Iterable[Outcome]) -> list[str]:
    return list(dict.fromkeys(service for outcome in outcomes for service in outcome["swaps"]))


def roll_out_audit(outcomes: Iterable[Outcome], action: str, operator: str, time: str) -> list[str]:
    """Return the lines for the log, one for each service: when, who, what, service, hosts, from, to, result."""
    held = list(outcomes)

    def joined(values: Iterable[str]) -> str:
        return ",".join(dict.fromkeys(values)) or "-"

    ok = all(outcome["result"] == "swapped" for outcome in held)
    lines = []
    # An engine's restart is none of a service.
    for service in _services(held) or ["-"]:
        of = [outcome for outcome in held if service in outcome["swaps"]]
        fields = {
            "service": service,
            "hosts": joined(outcome["host"] for outcome in of or held),
            "from": joined(short_image(outcome["swaps"][service]["from"]) for outcome in of),
            "to": joined(short_image(outcome["swaps"][service]["to"]) for outcome in of),
            "result": "ok" if ok else f"failed on {joined(outcome['host'] for outcome in roll_out_failures(held))}",
        }
        lines.append(" ".join([time, operator, action, *(f"{key}={value}" for key, value in fields.items())]))
    return lines


def _drained(found: Mapping[str, Any]) -> str:
    still = [f"still drained: {', '.join(found['drained'])}"] if found["drained"] else []
    silent = [f"{name} did not say what it has drained" for name in found["silent"]]
    return ", ".join([*still, *silent])


def roll_out_verdict(outcomes: Iterable[Outcome], backends: Sequence[str], found: Mapping[str, Any]) -> str:
    """Return what an operator reads after a roll-out that failed: one sentence, then what each failed host said.

    Args:
        outcomes: as :func:`roll_out_outcomes` returns them.
        backends: all of the site's.
        found: what the balancers said after it was undone: ``drained``, hosts that stay drained by a roll-out;
            ``silent``, balancers that did not answer.
    """
    held = list(outcomes)
    failures = roll_out_failures(held)
    broken = [outcome["host"] for outcome in held if outcome["result"] == "broken"]
    names = ", ".join(outcome["host"] for outcome in failures)
    runs = {
        (outcome["host"], service): str(outcome.get("runs", {}).get(service, ""))
        for outcome in held
        for service in outcome["swaps"]
    }
    before = {
        (outcome["host"], service): swap["from"] for outcome in held for service, swap in outcome["swaps"].items()
    }
    everywhere = {(host, service) for service in _services(held) for host in backends} <= set(runs)
    one = all(len({image for (_, of), image in runs.items() if of == service}) == 1 for service in _services(held))
    if broken:
        after = [f"{', '.join(broken)} could not be put back in full and needs a look (status.yml)"]
    elif everywhere and one and all(runs[key] and runs[key] == before[key] for key in runs):
        after = ["the old version runs everywhere"]
    else:
        several = len(_services(held)) > 1
        after = [
            f"{host} runs {short_image(image)}{f' of {service}' if several else ''}"
            for (host, service), image in runs.items()
        ]
    if found["drained"] or found["silent"]:
        after.append(_drained(found))
    elif not broken:
        after.append("and no host stays drained by it")
    undone = "not wholly undone" if broken else "undone"
    said = [f"{outcome['host']}: {outcome['text']}".rstrip() for outcome in failures]
    return "\n".join([f"The roll-out failed on {names} and was {undone}: {', '.join(after)}.", *said])


def engine_verdict(outcomes: Iterable[Outcome], found: Mapping[str, Any]) -> str:
    """Return what an operator reads after an engine could not be restarted, as :func:`roll_out_verdict` does."""
    held = list(outcomes)
    failures = roll_out_failures(held)
    waiting = [outcome["host"] for outcome in held if outcome["result"] == "waiting"]
    after = [f"{', '.join(waiting)} still {'run' if len(waiting) > 1 else 'runs'} as before"] if waiting else []
    after.append(_drained(found) or "no host stays drained by it")
    names = ", ".join(outcome["host"] for outcome in failures)
    said = [f"{outcome['host']}: {outcome['text']}" for outcome in failures]
    return "\n".join([f"The engine was not brought in line on {names}: {', '.join(after)}.", *said])


def roll_out_summary(outcomes: Iterable[Outcome], check_mode: bool = False) -> str:
    """Return what an operator reads after a roll-out that succeeded, or that had nothing to do."""
    swapped = [outcome for outcome in outcomes if outcome["result"] == "swapped"]
    if check_mode:
        return "Check mode: containers reported as changed above would be replaced, one batch after the other."
    if not swapped:
        return "Nothing to do: every backend runs what is wanted."
    lines = []
    for service in _services(swapped):
        of = [outcome for outcome in swapped if service in outcome["swaps"]]
        ways = dict.fromkeys(swap_text(outcome["swaps"][service]) for outcome in of)
        name = "" if service == GUIDE else f"{service} on "
        lines.append(f"{name}{', '.join(outcome['host'] for outcome in of)}: {'; '.join(ways)}.")
    return " ".join(lines)


def swap_text(swap: Mapping[str, str]) -> str:
    """Return a swap in words, such as ``1.0.0-abc -> 1.1.0-def``."""
    return f"{short_image(swap['from'])} -> {short_image(swap['to'])}"


def inventory_note(inventory: Sequence[str], running: Sequence[str], setting: str = _GUIDES) -> str:
    """Return what to do where the inventory says something else than what runs now; empty where it says the same.

    Args:
        inventory: what it says, versions and images.
        running: what runs, likewise.
        setting: where it is to be said.
    """
    if list(inventory) == list(running):
        return ""
    said = ", ".join(short_image(text) for text in inventory if text)
    return (
        f"The inventory and the sources still say {said}, and the next site.yml brings that back: "
        f"write what shall stay into the inventory ({setting})."
    )


def batch_problem(batch: object, hosts: int) -> str:
    """Return why ``deploy_batch`` is no batch for so many hosts, a sentence; empty where it is one."""
    text = str(batch)
    if not re.fullmatch(r"[1-9][0-9]*|[1-9][0-9]?%", text):
        return f"deploy_batch is `{text}`: set it to a number of hosts (1) or a share of them (25%)."
    size = max(1, hosts * int(text[:-1]) // 100) if text.endswith("%") else int(text)
    if hosts > 1 and size >= hosts:
        return f"deploy_batch is `{text}`, which would take all {hosts} hosts of a service out at once: set it to less."
    return ""


def target_problem(target: object, hosts: Iterable[str], playbook: str) -> str:
    """Return why ``target`` is none of ``hosts``, a sentence; empty where it is one."""
    listed = [str(host) for host in hosts]
    if target in listed:
        return ""
    what = f"`{target}` is no backend of this inventory" if target else "Which backend is meant was not said"
    return f"{what}: run {playbook} with -e target=<one of {', '.join(listed)}>."


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "batch_problem": batch_problem,
            "brings_foreign": brings_foreign,
            "engine_verdict": engine_verdict,
            "failure_text": failure_text,
            "inventory_note": inventory_note,
            "lock_note": lock_note,
            "log_text": log_text,
            "only_ours": only_ours,
            "out_note": out_note,
            "ran_here": ran_here,
            "release_before": release_before,
            "releases_after": releases_after,
            "roll_back_plan": roll_back_plan,
            "roll_out_audit": roll_out_audit,
            "roll_out_failures": roll_out_failures,
            "roll_out_left_out": roll_out_left_out,
            "roll_out_order": roll_out_order,
            "roll_out_outcomes": roll_out_outcomes,
            "roll_out_summary": roll_out_summary,
            "roll_out_verdict": roll_out_verdict,
            "services_up": services_up,
            "short_image": short_image,
            "swap_text": swap_text,
            "target_problem": target_problem,
            "unprepared": unprepared,
        }
