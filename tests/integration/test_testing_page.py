"""The page on testing: its files are written as they stand and run by a pytest of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
_FILE = re.compile(r"^`(?P<name>\w+\.py)`:\n\n```python\n(?P<text>.*?)^```$", re.M | re.S)


def test_every_file_of_the_page_holds(tmp_path: Path) -> None:
    text = PAGE.read_text()
    files = {found["name"]: found["text"] for found in _FILE.finditer(text)}
    assert len(files) == text.count("```python") == 4
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CELERY"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull,
         "--rootdir", str(tmp_path), "-W", "error", "."],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout, done.stdout
