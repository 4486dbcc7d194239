"""What axe-core finds on the page that a tab of a real browser shows."""

from __future__ import annotations

from tests.support.browser import Tab
from tests.support.source import ROOT

_AXE = ROOT / "tests" / "javascript" / "node_modules" / "axe-core" / "axe.min.js"
_RUN = """
const found = await axe.run(document, {resultTypes: ["violations", "incomplete"]});
return found.violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.html).join(" | ")}`);
"""


async def accessibility_faults(tab: Tab) -> list[str]:
    """Return each rule of axe-core that the page breaks, and where."""
    # The debugger may run a script that the page's own policy would refuse.
    await tab.command("Runtime.evaluate", expression=_AXE.read_text())
    faults: list[str] = await tab.run(_RUN)
    return faults
