"""The verdict of a gate as JUnit XML, which most systems of continuous integration read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from palate.evaluation.gate import GateReport, LimitResult
from palate.evaluation.report.formatting import interval, number

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, even as a reference (section 2.2)."""


def junit(report: GateReport) -> str:
    """Return one test suite with a test per limit: a limit that is unknown is an error, or skipped where that is allowed.

    The form is that of the schema of Jenkins (junit-10.xsd). Times are those of the evaluation, so equal runs give equal bytes.
    """
    results = report.results
    counts = {
        "tests": len(results),
        "failures": sum(result.status == "failed" for result in results),
        "errors": sum(result.status == "unknown" and result.fails for result in results),
        "skipped": sum(result.status == "unknown" and not result.fails for result in results),
    }
    numbers = {name: str(count) for name, count in counts.items()}
    suites = ET.Element("testsuites", {name: numbers[name] for name in ("tests", "failures", "errors")} | {"name": report.gate.name})
    when = (report.candidate.record.finished or report.candidate.record.started)[:19]
    suite = ET.SubElement(
        suites, "testsuite", {"name": report.gate.name, **numbers, "time": "0", "timestamp": when, "hostname": "localhost"}
    )
    properties = ET.SubElement(suite, "properties")
    for name, run in (("candidate", report.candidate), ("baseline", report.baseline)):
        if run is not None:
            ET.SubElement(properties, "property", {"name": name, "value": run.name})
    for result in results:
        _case(suite, report.gate.name, result)
    ET.SubElement(suite, "system-out").text = "\n".join([report.verdict, *report.notes])
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text) + "\n"


def _case(suite: ET.Element, gate: str, result: LimitResult) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": gate, "name": result.limit.words, "time": "0"})
    if result.status == "failed":
        ET.SubElement(case, "failure", {"type": "limit", "message": measured_words(result)})
    elif result.status == "unknown" and result.fails:
        ET.SubElement(case, "error", {"type": "unknown", "message": result.reason})
    elif result.status == "unknown":
        ET.SubElement(case, "skipped", {"message": result.reason})
    else:
        ET.SubElement(case, "system-out").text = measured_words(result)


def measured_words(result: LimitResult) -> str:
    """Return what was measured: the number, its interval and the number of questions; the reason where nothing is known."""
    if result.measured is None:
        return result.reason
    one = result.measured
    return f"{number(one.value, 4)}, 95 %: {interval(one, 4)}, n = {one.n}"
