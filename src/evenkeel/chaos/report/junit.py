"""The verdict as JUnit's XML: a test case an objective."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from evenkeel.chaos.analysis.objectives import DEVIATED, UNJUDGED
from evenkeel.chaos.analysis.verdict import Result


def junit(result: Result) -> str:
    """Return the file's text; where the run doesn't count, no objective passes."""
    plan = result.recording.plan
    suite = ET.Element("testsuite", name=f"chaos {plan.fault} {plan.target}")
    counts = ET.SubElement(suite, "testcase", classname="chaos", name="The run counts")
    if result.reasons:
        ET.SubElement(counts, "error", message=" ".join(result.reasons))
    failures = skipped = 0
    for each in result.objectives:
        case = ET.SubElement(suite, "testcase", classname=f"chaos.{plan.fault}", name=each.title)
        message = f"{each.figure}, wanted {each.goal}; {each.detail}".rstrip("; ")
        if result.reasons or each.status == UNJUDGED:
            ET.SubElement(case, "skipped", message=message)
            skipped += 1
        elif each.status == DEVIATED:
            ET.SubElement(case, "failure", message=message)
            failures += 1
        else:
            ET.SubElement(case, "system-out").text = message
    suite.set("tests", str(len(result.objectives) + 1))
    suite.set("failures", str(failures))
    suite.set("errors", str(int(bool(result.reasons))))
    suite.set("skipped", str(skipped))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
