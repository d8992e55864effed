"""`python -m options_agent.llm.server FOLDER PORT`: serve on loopback until ended; how the desk starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from options_agent.llm.server.running import serve

if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
