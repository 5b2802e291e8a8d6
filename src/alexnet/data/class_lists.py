"""Lists of classes as people have them: a text with one a line, or JSON."""

import json
from pathlib import Path
from typing import Any


def read_names(path: Path) -> list[Any] | dict[str, Any]:
    """The lines of a text that are not empty, without the spaces around them; of JSON its list or mapping.

    Raises OSError for a file that can't be opened, and ValueError for one that holds something else.
    """
    text = path.read_text("utf-8")
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    found = json.loads(text)
    if not isinstance(found, list | dict):
        raise ValueError("neither a list nor a mapping")
    return found
