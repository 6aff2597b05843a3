"""What reading the settings and starting a gateway load, and what they leave until it is needed."""

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


def test_a_start_loads_nothing_that_the_default_does_not_use() -> None:
    asked = (
        "import sys, gateway.cli.running, gateway.serving, gateway.api.app;"
        "print(*sorted({'pydicom', 'pynetdicom', 'numpy', 'fastapi', 'jinja2', 'psycopg', 'redis',"
        " 'alembic', 'saxonche'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
