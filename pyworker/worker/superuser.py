"""Whether this user may run a worker that accepts what it accepts: pickle as root is refused, as in Celery."""

from __future__ import annotations

import grp
import os
import warnings
from typing import TYPE_CHECKING

from kombu.serialization import prepare_accept_content

from pyworker.exceptions import SecurityError, SecurityWarning

if TYPE_CHECKING:
    from collections.abc import Collection

_PICKLE = "application/x-python-serialize"
#: Groups whose members can become root.
_POWERFUL_GROUPS = frozenset({"sudo", "wheel"})
#: Celery's texts: people and tools look for them.
_REFUSED = """\
Running a worker with superuser privileges when the
worker accepts messages serialized with pickle is a very bad idea!

If you really want to continue then you have to set the C_FORCE_ROOT
environment variable (but please think about this before you do).

User information: {user}
"""
_DISCOURAGED = """\
You're running the worker with superuser privileges: this is
absolutely not recommended!

Please specify a different user using the --uid option.

User information: {user}
"""


def check_privileges(accept_content: Collection[str] | None) -> None:
    """Refuse to accept pickle as root, or in a group that can become root; warn of running as such at all.

    Args:
        accept_content: names of serializers or content types.

    Raises:
        SecurityError: refused; ``C_FORCE_ROOT`` in the environment allows it.
    """
    if not _is_powerful():
        return
    user = f"uid={os.getuid()} euid={os.geteuid()} gid={os.getgid()} egid={os.getegid()}"
    accepted = prepare_accept_content(accept_content) or ()
    if _PICKLE in accepted and not os.environ.get("C_FORCE_ROOT"):
        raise SecurityError(_REFUSED.format(user=user))
    warnings.warn(SecurityWarning(_DISCOURAGED.format(user=user)), stacklevel=2)


def _is_powerful() -> bool:
    """Whether this process is root's; a group that has no name may be anybody's."""
    if 0 in (os.getuid(), os.geteuid()):
        return True
    try:
        names = {grp.getgrgid(group).gr_name for group in (os.getgid(), os.getegid())}
    except KeyError:
        return True
    return bool(names & _POWERFUL_GROUPS)
