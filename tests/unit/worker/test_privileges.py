"""Giving up root, tried in processes of their own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from pyworker.worker.privileges import PrivilegesError, parse_group, parse_umask, parse_user

ROOT = Path(__file__).resolve().parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
PROGRAM = """
import os
from pyworker.worker.privileges import drop_privileges
drop_privileges({user!r}, {group!r})
print(*os.getresuid(), *os.getresgid(), *os.getgroups())
"""


def ids_after(user: str | None, group: str | None) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(user=user, group=group)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(word) for word in done.stdout.split()]


@as_root
def test_user_takes_its_own_group_and_leaves_roots() -> None:
    nobody = pwd.getpwnam("nobody")
    ids = ids_after("nobody", None)
    assert ids[:6] == [nobody.pw_uid] * 3 + [nobody.pw_gid] * 3
    assert 0 not in ids


@as_root
def test_user_and_group_may_differ() -> None:
    group = parse_group("daemon")
    assert ids_after("nobody", "daemon")[:6] == [parse_user("nobody")] * 3 + [group] * 3


@as_root
def test_group_alone_changes_the_group_alone() -> None:
    group = parse_group("daemon")
    assert ids_after(None, "daemon")[:6] == [0, 0, 0, group, group, group]


def test_names_and_numbers_are_understood() -> None:
    assert parse_user("0") == parse_user("root") == 0
    assert parse_group("0") == parse_group("root") == 0


def test_unknown_names_are_told() -> None:
    with pytest.raises(PrivilegesError, match="User does not exist: no-such-user"):
        parse_user("no-such-user")
    with pytest.raises(PrivilegesError, match="Group does not exist: no-such-group"):
        parse_group("no-such-group")


@pytest.mark.parametrize(("text", "mask"), [("022", 0o22), ("18", 18), ("0", 0)])
def test_umask_is_octal_with_a_leading_zero(text: str, mask: int) -> None:
    assert parse_umask(text) == mask
