"""schemathesis against `/openapi.json` of a running hub, as three roles: no server error, no answer outside its schema.

`python -m tests.conformance.rest --schemathesis PATH [--examples 50]`. schemathesis has many dependencies and is not
one of ours: `python -m venv st && st/bin/pip install schemathesis`, then `--schemathesis st/bin/schemathesis`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # as pytest has it

from conftest import start_hub, stop_hub

ROLES = ("admin", "trader", "dashboard")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# Each of these ends the token that the rest of the run needs.
SKIPPED = ("/v1/auth/logout", "/oauth/revoke", "/v1/sessions", "/v1/sessions/{id}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    parser.add_argument("--schemathesis", default=found, help="or $SCHEMATHESIS")
    parser.add_argument("--examples", type=int, default=50, help="for each operation and phase")
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    if not options.schemathesis:
        print("skipped: there is no schemathesis (the top of this module says how to get it)", file=sys.stderr)
        return 2
    print(f"skipped because they end the token of the run: {', '.join(SKIPPED)}")
    with tempfile.TemporaryDirectory() as folder:
        hub = start_hub(Path(folder), "--drain-timeout", "0")
        try:
            codes = []
            for role in ROLES:
                print(f"--- as {role}", flush=True)
                command = [options.schemathesis, "run", f"{hub.url}/openapi.json", "--checks", ",".join(CHECKS)]
                command += ["--header", f"Authorization: Bearer {hub.token(f'the-{role}', role)}"]
                command += ["--max-examples", str(options.examples), "--seed", str(options.seed), "--no-color"]
                command += ["--continue-on-failure", "--warnings", "off"]
                for path in SKIPPED:
                    command += ["--exclude-path", path]
                codes.append(subprocess.run(command, cwd=folder).returncode)
            log = (Path(folder) / "stderr.log").read_text()
        finally:
            stop_hub(hub)
    incidents = [line for line in log.splitlines() if "Traceback" in line or "incident" in line]
    print("\n".join(incidents[:20]))
    return 1 if any(codes) or incidents else 0


if __name__ == "__main__":
    sys.exit(main())
