"""pytest fixtures for the tests of an app recipe that Assay runs.

Assay tells a test everything in one JSON file, which $ASSAY_CONTEXT names; these fixtures read it. Values are frozen:
a test looks at the app and changes nothing that another test is told. Needs pytest and the standard library.

    #!/usr/bin/env -S python3 -m pytest -p pytest_assay
    from urllib.request import urlopen

    def test_it_answers(base_url, meta, ssl_context):
        with urlopen(base_url + meta["http"]["path"], context=ssl_context) as answer:
            assert answer.status == 200
"""

import json
import os
import ssl
from types import MappingProxyType

import pytest

VARIABLE = "ASSAY_CONTEXT"
# The form of the context that this was written for: schemas/recipe-context.schema.json.
FORMAT = 1
# What `python3 -m pytest` ends with when it was called in the wrong way.
USAGE_ERROR = 4


class ContextError(Exception):
    """The context cannot be used; the message says what to do."""


class _Credentials(dict):
    """Credentials by dependency. Asking for one that there is not names those that there are."""

    def __missing__(self, name):
        known = ", ".join(sorted(self)) or "none"
        raise KeyError(f"no dependency is called {name!r}; tests/assay.toml declares {known}")

    def _frozen(self, *_arguments, **_named):
        raise TypeError("what Assay tells a test does not change")

    __setitem__ = __delitem__ = _frozen
    clear = pop = popitem = setdefault = update = __ior__ = _frozen


def load(path=None):
    """Reads a context, from $ASSAY_CONTEXT unless a path is given."""
    path = path or os.environ.get(VARIABLE)
    if not path:
        raise ContextError(f"${VARIABLE} is not set; let Assay run this test, or set it to the path of a context")
    try:
        with open(path, encoding="utf-8") as file:
            context = json.load(file)
    except (OSError, ValueError) as error:
        raise ContextError(f"the context {path} cannot be read: {error}") from error
    found = context.get("format") if isinstance(context, dict) else None
    if found != FORMAT:
        raise ContextError(
            f"the context {path} has form {found!r}, and this plugin reads form {FORMAT}; "
            "install the plugin that came with this version of Assay"
        )
    return _frozen(context)


def _frozen(value):
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(item) for name, item in value.items()})
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


@pytest.fixture(scope="session")
def assay():
    """The whole context, read-only: domain, stack, recipe, paths and what the other fixtures give."""
    try:
        return load()
    except ContextError as error:
        # Every further test would fail for the same reason.
        pytest.exit(str(error), returncode=USAGE_ERROR)


@pytest.fixture(scope="session")
def meta(assay):
    """The recipe's settings, with defaults filled in: `meta["http"]["path"]`."""
    return assay["meta"]


@pytest.fixture(scope="session")
def deps(assay):
    """Credentials of the dependencies: `deps["sso"]["client_id"]`."""
    return _Credentials(assay["deps"])


@pytest.fixture(scope="session")
def op_state(assay):
    """The operation that a `test_OPERATION` looks at: its `name`, its `state`, its `facts`. None in the recipe's own tests."""
    return assay["op"]


@pytest.fixture(scope="session")
def base_url(assay):
    """Where the app answers, without a slash at the end."""
    if assay["base_url"] is None:
        pytest.fail("this recipe has no web face (`http.none` in tests/assay.toml), so there is no base_url", pytrace=False)
    return assay["base_url"]


@pytest.fixture(scope="session")
def ssl_context(assay):
    """What the standard library wants as `context=` to trust the certificate of the app; None for plain HTTP."""
    ca_file = assay["paths"]["ca_file"]
    return ssl.create_default_context(cafile=ca_file) if ca_file else None


def pytest_report_header(config):
    """Says on top of the output what is tested. Nothing where there is no context: the fixtures say why."""
    try:
        context = load()
    except ContextError:
        return None
    recipe = context["recipe"]
    operation = f", after {context['op']['name']}" if context["op"] else ""
    return f"assay: {recipe['name']} {recipe['version'] or '(no version)'}{operation}"
