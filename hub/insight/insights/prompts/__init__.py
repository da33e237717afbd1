"""What models are told, a file for each version: one that was used is never changed, but followed by another."""

from __future__ import annotations

from importlib.resources import files


def read_prompt(version: str) -> str:
    """`version`: the name of the file, which every insight made with it carries."""
    return files(__name__).joinpath(f"{version}.md").read_text()
