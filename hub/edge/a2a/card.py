"""The agent card: what the hub is and how to talk to it, for whoever looks for agents."""

from __future__ import annotations

from typing import Any

from hub import __version__

PROTOCOL_VERSION = "1.0"


def card(address: str) -> dict[str, Any]:
    """`address`: where the hub is, without a slash at the end."""
    return {
        "name": "Krin",
        "description": "A team of agents and people that takes tasks for its projects and says how they go.",
        "version": __version__,
        "supportedInterfaces": [
            {"url": f"{address}/a2a", "protocolBinding": "JSONRPC", "protocolVersion": PROTOCOL_VERSION}
        ],
        "capabilities": {"streaming": True, "pushNotifications": False, "extendedAgentCard": False},
        "securitySchemes": {"bearer": {"httpAuthSecurityScheme": {"scheme": "bearer", "bearerFormat": "JWT"}}},
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        "defaultInputModes": ["text/plain", "application/json"],
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [
            {
                "id": "delegate",
                "name": "Take a task",
                "description": (
                    "A message becomes a task of the project that `contextId` names. Text says what is to be done; a "
                    "data part may hold fields of a task: effort_h, required_skills, priority, deadline, depends_on, "
                    "gates. The team's plan decides who does it, and when."
                ),
                "tags": ["coordination", "delegation", "planning"],
                "examples": ["Write the release notes of 2.1 and have them reviewed."],
            }
        ],
    }
