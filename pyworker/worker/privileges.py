"""``--uid`` and ``--gid``: give up root for good before anything of the application runs as a worker."""

from __future__ import annotations

import errno
import grp
import os
import pwd

from pyworker.exceptions import PyworkerError


class PrivilegesError(PyworkerError):
    """The process could not, or did not really, become the user asked for."""


def parse_user(value: str) -> int:
    """A user's id from an id or a name.

    Raises:
        PrivilegesError: there is no such user.
    """
    try:
        return int(value)
    except ValueError:
        try:
            return pwd.getpwnam(value).pw_uid
        except KeyError:
            raise PrivilegesError(f"User does not exist: {value}") from None


def parse_group(value: str) -> int:
    """A group's id from an id or a name.

    Raises:
        PrivilegesError: there is no such group.
    """
    try:
        return int(value)
    except ValueError:
        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            raise PrivilegesError(f"Group does not exist: {value}") from None


def parse_umask(value: str) -> int:
    """A umask: octal with a leading zero, decimal otherwise."""
    return int(value, 8 if value.startswith("0") else 10)


def drop_privileges(user: str | None, group: str | None) -> None:
    """Become this user and group for good. Only a group is changed if no user is given.

    Raises:
        PrivilegesError: unknown name, or root could be regained afterwards.
    """
    user_id = parse_user(user) if user else None
    group_id = parse_group(group) if group else None
    if user_id is not None:
        _become_user(user_id, group_id)
    elif group_id is not None:
        os.setgid(group_id)
    if user_id and 0 in (os.getuid(), os.geteuid()):
        raise PrivilegesError("Still root uid after drop privileges!")
    if group_id and 0 in (os.getgid(), os.getegid()):
        raise PrivilegesError("Still root gid after drop privileges!")


def _become_user(user_id: int, group_id: int | None) -> None:
    if user_id != 0 and os.getresuid() == (user_id,) * 3 and group_id in (None, os.getgid()):
        return  # done by the process that started this one
    account = pwd.getpwuid(user_id)
    # Groups first: after setuid there is no permission left to change them.
    os.setgid(account.pw_gid if group_id is None else group_id)
    os.initgroups(account.pw_name, account.pw_gid if group_id is None else group_id)
    os.setuid(user_id)
    if user_id == 0:
        return
    try:
        os.setuid(0)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    else:
        raise PrivilegesError("non-root user able to restore privileges after setuid.")
