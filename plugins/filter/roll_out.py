"""Filters of a roll-out: which image comes before which, how hosts fared, and how that reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Outcome = Mapping[str, Any]


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


def failure_text(result: Mapping[str, Any]) -> str:
    """Return what a failed task said: its items' messages where it is a loop, its own otherwise."""
    if result.get("unreachable"):
        return f"unreachable: {result.get('msg', '')}".strip(" :")
    items = [item for item in result.get("results", []) if item.get("failed") or item.get("unreachable")]
    texts = [failure_text(item) for item in items] or [str(result.get("msg") or result.get("stderr") or "no reason")]
    return " ".join(" ".join(text.split()) for text in texts)


def roll_out_outcomes(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how each host fared.

    Each is ``{"host": str, "from": str, "to": str, "result": str, "text": str, "left_out": [balancer, …]}``.

    ``result`` is ``waiting`` (not its turn yet, or never), ``swapped``, ``failed`` (the old container is back),
    ``put back`` (swapped, then undone) or ``broken`` (the old container could not be put back). ``left_out`` are the
    balancers where somebody had drained it before, which stays so.
    """
    outcomes = []
    for name in names:
        variables = hostvars[name]
        swap = variables.get("backend_app_swap") or {}
        outcome = variables.get("rolling_swap_outcome") or {"result": "waiting", "text": ""}
        images = {"from": swap.get("from", ""), "to": swap.get("to", "")}
        left_out = list(variables.get("rolling_swap_left_out") or [])
        outcomes.append({"host": str(name), **images, "left_out": left_out, **outcome})
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


def short_image(image: str) -> str:
    """Return an image's tag where it is one of ours, the whole reference otherwise."""
    return image.removeprefix("evenkeel.local/backend_app:") or "nothing"


def roll_out_audit(outcomes: Iterable[Outcome], action: str, operator: str, time: str) -> str:
    """Return the line for the log: when, who, what, hosts, from, to, result."""
    held = list(outcomes)

    def joined(values: Iterable[str]) -> str:
        return ",".join(dict.fromkeys(values)) or "-"

    ok = all(outcome["result"] == "swapped" for outcome in held)
    fields = {
        "hosts": joined(outcome["host"] for outcome in held),
        "from": joined(short_image(outcome["from"]) for outcome in held),
        "to": joined(short_image(outcome["to"]) for outcome in held),
        "result": "ok" if ok else f"failed on {joined(outcome['host'] for outcome in roll_out_failures(held))}",
    }
    return " ".join([time, operator, action, *(f"{key}={value}" for key, value in fields.items())])


def roll_out_verdict(outcomes: Iterable[Outcome]) -> str:
    """Return what an operator reads after a roll-out that failed: one sentence, then what each failed host said."""
    held = list(outcomes)
    failures = roll_out_failures(held)
    broken = [outcome["host"] for outcome in held if outcome["result"] == "broken"]
    names = ", ".join(outcome["host"] for outcome in failures)
    # Of a broken host nothing is promised: a balancer that was not reached may hold it drained still.
    after = (
        f"{', '.join(broken)} could not be put back in full and needs a look (status.yml)"
        if broken
        else "the old version runs everywhere, and no host stays drained by it"
    )
    said = [f"{outcome['host']}: {outcome['text']}" for outcome in failures]
    return "\n".join([f"The roll-out failed on {names} and was undone: {after}.", *said])


def roll_out_summary(outcomes: Iterable[Outcome], check_mode: bool = False) -> str:
    """Return what an operator reads after a roll-out that succeeded, or that had nothing to do."""
    swapped = [outcome for outcome in outcomes if outcome["result"] == "swapped"]
    if check_mode:
        return "Check mode: containers reported as changed above would be replaced, one batch after the other."
    if not swapped:
        return "Nothing to do: every backend runs what is wanted."
    ways = dict.fromkeys(swap_text(outcome) for outcome in swapped)
    return f"{', '.join(outcome['host'] for outcome in swapped)}: {'; '.join(ways)}."


def swap_text(swap: Mapping[str, str]) -> str:
    """Return a swap in words, such as ``1.0.0-abc -> 1.1.0-def``."""
    return f"{short_image(swap['from'])} -> {short_image(swap['to'])}"


def inventory_note(inventory: Sequence[str], running: Sequence[str]) -> str:
    """Return what to do where the inventory says something else than what runs now; empty where it says the same."""
    if list(inventory) == list(running):
        return ""
    said = ", ".join(short_image(text) for text in inventory if text)
    return (
        f"The inventory and the sources still say {said}, and the next site.yml brings that back: "
        "write what shall stay into the inventory (backend_app_version or backend_app_image)."
    )


def batch_problem(batch: object, hosts: int) -> str:
    """Return why ``deploy_batch`` is no batch for so many hosts, a sentence; empty where it is one."""
    text = str(batch)
    if not re.fullmatch(r"[1-9][0-9]*|[1-9][0-9]?%", text):
        return f"deploy_batch is `{text}`: set it to a number of hosts (1) or a share of them (25%)."
    size = max(1, hosts * int(text[:-1]) // 100) if text.endswith("%") else int(text)
    if hosts > 1 and size >= hosts:
        return f"deploy_batch is `{text}`, which would take all {hosts} backends out at once: set it to less."
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
            "failure_text": failure_text,
            "inventory_note": inventory_note,
            "release_before": release_before,
            "releases_after": releases_after,
            "roll_out_audit": roll_out_audit,
            "roll_out_failures": roll_out_failures,
            "roll_out_left_out": roll_out_left_out,
            "roll_out_outcomes": roll_out_outcomes,
            "roll_out_summary": roll_out_summary,
            "roll_out_verdict": roll_out_verdict,
            "short_image": short_image,
            "swap_text": swap_text,
            "target_problem": target_problem,
        }
