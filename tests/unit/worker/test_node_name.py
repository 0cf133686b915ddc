"""Node names and their abbreviations, beside Celery's own functions."""

from __future__ import annotations

import pytest
from celery.utils import nodenames

from pyworker.worker.node_name import default_node_name, expand_host, expand_node

NAMES = [None, "", "w1", "w1@", "w1@host", "@host", "w1@%h", "%n@%d", "a@b@c", "100%%@%h"]
TEXTS = ["%p", "%n-%h.%d", "%i", "%I", "/var/log/%n%I.log", "%%h", "plain", ""]
NODES = ["w1@host.example.com", "host", "celery@localhost", "@host"]


@pytest.mark.parametrize("given", NAMES)
def test_node_name_is_what_celery_makes_of_it(given: str | None) -> None:
    theirs = nodenames.host_format(nodenames.default_nodename(given))
    assert expand_host(default_node_name(given)) == theirs


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("node", NODES)
def test_text_expands_as_in_celery(text: str, node: str) -> None:
    assert expand_node(text, node) == nodenames.node_format(text, node)


def test_unknown_abbreviation_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="%q"):
        expand_node("/run/%q.pid", "w1@host")
