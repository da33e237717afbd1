"""What a program that only wants the client has to load."""

from __future__ import annotations

import subprocess
import sys

SERVER_SIDE = {"starlette", "uvicorn", "asyncpg", "redis", "pgvector", "openai", "prometheus_client", "storage"}


def test_the_client_loads_nothing_of_the_server() -> None:
    code = "import sys, hub.client; print(*sorted(sys.modules), sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = run.stdout.split()
    assert "hub.client.client" in loaded
    assert not SERVER_SIDE & {name.partition(".")[0] for name in loaded}
    assert {name for name in loaded if name.startswith("hub.") and not name.startswith("hub.client")} == set()
