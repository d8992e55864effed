"""Make this checkout importable in the environment that runs this, and put `options-agent` on its path: no build step."""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """#!{python}
import sys
from options_agent.cli.main import main
sys.exit(main())
"""


def main() -> None:
    """Write a path file and the console script."""
    Path(sysconfig.get_path("purelib"), "options_agent_checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    script = Path(sysconfig.get_path("scripts"), "options-agent")
    script.write_text(SCRIPT.format(python=sys.executable), encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
