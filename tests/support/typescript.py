"""Node, and the types of the browser client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from tests.support.source import ROOT

CLIENT: Final = ROOT / "server" / "experience" / "client"
_SCRIPTS: Final = ROOT / "tests" / "javascript"


def node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Node in the folder of the scripts."""
    command = ["node", *map(str, arguments)]
    return subprocess.run(command, cwd=_SCRIPTS, capture_output=True, text=True, check=False, timeout=300)


def compiled(folder: Path, programs: dict[str, str]) -> list[str]:
    """Type-check ``programs``, by name, strictly, against the client's types. Return what tsc says."""
    for path in CLIENT.glob("*.d.ts"):
        (folder / path.name).write_text(path.read_text())
    (folder / "package.json").write_text('{"type": "module"}')
    for name, program in programs.items():
        (folder / f"{name}.ts").write_text(f'import {{ open }} from "./interlock.js";\n{program}\nexport {{}};\n')
    options = {
        "noEmit": True,
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "useUnknownInCatchVariables": False,  # programs on pages are JavaScript
        "target": "es2022",
        "module": "nodenext",
    }
    files = [f"{name}.ts" for name in programs]
    project = {"compilerOptions": {**options, "lib": ["es2022", "dom"], "types": []}, "files": files}
    (folder / "tsconfig.json").write_text(json.dumps(project))
    tsc = _SCRIPTS / "node_modules" / "typescript" / "bin" / "tsc"
    return node(tsc, "--project", folder).stdout.splitlines()
