"""Every command reads the settings: that loads no database, protocol or web library."""

from __future__ import annotations

import subprocess
import sys


def test_reading_the_settings_loads_nothing_heavy() -> None:
    asked = (
        "import sys, gateway.settings;"
        "print(*sorted({'sqlalchemy', 'pydicom', 'pynetdicom', 'fastapi', 'lxml', 'numpy'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
