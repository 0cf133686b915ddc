"""The page 'Coming from Celery': its table is what the packages say, its snippets run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "coming-from-celery.md"


def test_the_table_of_names_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "celery_names"), "--check"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_snippets_run(tmp_path: Path) -> None:
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "celeryconfig.py").write_text("task_default_queue = 'proj'\n")
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert snippets
    program = (
        "import sys\nsys.modules['celery'] = None\n" + "\n".join(snippets) + "\nprint(app.conf.task_default_queue)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "proj\n", done.stderr
