"""``upgrade settings``: rename the settings of Celery 3 in a file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyworker.cli.commands import AppCommand, AppGroup, option_group
from pyworker.conf_defaults import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

_option = option_group("Upgrading Options")
_WORD = re.compile(r"\b[A-Z][A-Z0-9_]+\b")


@click.group(cls=AppGroup)
def upgrade() -> None:
    """Bring an application up to date."""


@upgrade.command(cls=AppCommand)
@click.argument("filename", type=click.Path(exists=True, dir_okay=False))
@_option("--django", is_flag=True, help="Keep upper case, with the prefix CELERY_.")
@_option("--compat", is_flag=True, help="The same, for a project that is not Django's.")
@_option("--no-backup", is_flag=True, help="Keep no copy of the old file.")
def settings(filename: str, django: bool, compat: bool, no_backup: bool) -> None:
    """Rename the settings in FILENAME to the lower-case names that Celery 4 introduced."""
    path = Path(filename)
    click.echo(f"processing {filename}...", err=True)
    # Line ends stay what they are.
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    names = new_names(keeps_prefix=django or compat)
    renamed = _WORD.sub(lambda match: names.get(match.group(), match.group()), text)
    if renamed == text:
        click.echo("Does not seem to require any changes :-)")
        return
    if not no_backup:
        backup = f"{filename}.orig"
        click.echo(f"writing backup to {backup}...", err=True)
        shutil.copyfile(path, backup)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(renamed)
    click.echo("Changes to your setting have been made!")


def new_names(*, keeps_prefix: bool) -> Mapping[str, str]:
    """New names of settings by their old ones.

    Args:
        keeps_prefix: whether the new name is ``CELERY_`` and the setting in upper case.
    """
    # What never had another name had its own in upper case.
    names = {old: setting.name for setting in SETTINGS for old in setting.old_names or (setting.name.upper(),)}
    if keeps_prefix:
        return {old: _with_prefix(new) for old, new in names.items()}
    return names


def _with_prefix(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CELERY") else f"CELERY_{upper}"
