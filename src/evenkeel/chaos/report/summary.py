"""The verdict in words: a few lines for the terminal, a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from evenkeel.chaos.analysis.objectives import DEVIATED, HELD
from evenkeel.chaos.analysis.verdict import INCOMPLETE, VOID, Result

WORDS = {
    HELD: "HELD: the site stayed within every objective.",
    DEVIATED: "DEVIATED: the site left its objectives.",
    VOID: "DOESN'T COUNT: the load generator did not keep its schedule.",
    INCOMPLETE: "INCOMPLETE: the run was cut off, and does not count as held.",
}


def lines(result: Result) -> str:
    """Return the verdict for a terminal."""
    plan = result.recording.plan
    found = [f"{plan.title}: {WORDS[result.verdict]}"]
    found += [f"  {reason}" for reason in result.reasons]
    width = max(len(each.title) for each in result.objectives)
    found += [
        f"  {each.status:<10}  {each.title:<{width}}  {each.figure} (wanted {each.goal})" for each in result.objectives
    ]
    return "\n".join(found) + "\n"


def row(cells: Iterable[str]) -> str:
    """Return a line of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markdown(result: Result) -> str:
    """Return summary.md."""
    plan = result.recording.plan
    found = [f"# {plan.title}", "", f"**{WORDS[result.verdict]}**", ""]
    found += [f"- {reason}" for reason in result.reasons] + ([""] if result.reasons else [])
    found += ["| objective | wanted | came | | |", "|---|---|---|---|---|"]
    for each in result.objectives:
        found.append(row((each.title, each.goal, each.figure, each.status, each.detail)))
    found += ["", "## Timeline", "", "Seconds from the fault.", "", "| s | what |", "|---:|---|"]
    found += [row((f"{event.at:+.1f}", event.text)) for event in result.events]
    return "\n".join(found) + "\n"
