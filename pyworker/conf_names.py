"""Names of settings: old ones, namespaces, and what somebody probably meant by one that does not exist."""

from __future__ import annotations

import warnings

from pyworker.conf_defaults import SETTINGS, Setting
from pyworker.exceptions import PyworkerWarning

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
_BY_OLD_NAME: dict[str, str] = {old: setting.name for setting in SETTINGS for old in setting.old_names}
_BY_OLD_NAME.update({"BROKER_TRANSPORT": "broker_transport", "CELERYD_LOG_LEVEL": "worker_log_level"})
#: What the names of settings begin with that nobody but us should define.
_OUR_PREFIXES = ("task_", "worker_", "broker_", "result_", "event_", "control_")
_PREFIX_OF_BEAT = "beat_"
#: Names that other programs define under our prefixes.
_FOREIGN = frozenset({"beat_dburi", "beat_engine_options", "beat_schema", "broker_api", "worker_log_level"})
_SIMILAR = 0.8


def canonical(name: str) -> str:
    """Return a setting's name in lower case, given in any of its forms."""
    return _BY_OLD_NAME.get(name) or (name.lower() if name.isupper() else name)


def in_namespace(name: str, namespace: str) -> str | None:
    """Return the setting that a name in a namespace stands for, None if it is not in the namespace."""
    prefix = namespace.upper().rstrip("_") + "_"
    return name[len(prefix) :].lower() if name.upper().startswith(prefix) else None


def nearest(name: str) -> str | None:
    """Return the name of the setting that is spelled most like this one, None if none is."""
    # Not at the top: only mistakes need it.
    from difflib import get_close_matches

    found = get_close_matches(name, BY_NAME, n=1, cutoff=_SIMILAR)
    return found[0] if found else None


def warn_if_unknown(name: str, written: str | None = None) -> None:
    """Warn of a name that looks like a setting but is none.

    Args:
        name: the name in lower case.
        written: as it was written, if otherwise.
    """
    if name in BY_NAME or name in _FOREIGN or name.startswith("_"):
        return
    similar = nearest(name)
    if similar is None and not name.startswith((*_OUR_PREFIXES, _PREFIX_OF_BEAT)):
        return
    hint = f"; did you mean {similar}?" if similar else ""
    warnings.warn(f"{written or name} is not a known setting{hint}", PyworkerWarning, stacklevel=4)
