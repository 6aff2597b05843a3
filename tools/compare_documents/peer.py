"""Maps documents with python-fhir-converter when it is told to.

Each line of the input is a JSON list of files; the answer to each is a line of JSON: for every file the
milliseconds of processor time and the number of resources, or null when it cannot take the file.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from fhir_converter.renderers import CcdaRenderer


def one(renderer: CcdaRenderer, name: str) -> list[float] | None:
    """Milliseconds from the text to a bundle as JSON, and the resources in it."""
    text = Path(name).read_text(encoding="utf-8-sig")
    start = time.process_time()
    try:
        made = renderer.render_fhir_string("CCD", text)
    except Exception as error:  # noqa: BLE001 - whatever it fails by, it does not take the document
        print(f"{name}: {type(error).__name__}", file=sys.stderr)
        return None
    taken = (time.process_time() - start) * 1000
    return [taken, len(json.loads(made).get("entry", []))]


def main() -> None:
    """Serve rounds until the input ends."""
    renderer = CcdaRenderer()
    for line in sys.stdin:
        print(json.dumps([one(renderer, name) for name in json.loads(line)]), flush=True)


if __name__ == "__main__":
    main()
