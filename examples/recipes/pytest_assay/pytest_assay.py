"""pytest fixtures for the tests of an app recipe that Assay runs.

Assay tells a test everything in one JSON file, which $ASSAY_CONTEXT names; these fixtures read it. Values are frozen:
a test looks at the app and changes nothing that another test is told. Needs pytest and the standard library.

    #!/usr/bin/env -S python3 -m pytest -p pytest_assay
    from urllib.request import urlopen

    def test_it_answers(base_url, meta, ssl_context):
        with urlopen(base_url + meta["http"]["path"], context=ssl_context) as answer:
            assert answer.status == 200

In tests of `browser/` there is a browser, too, with a new session for each test:

    def test_one_can_sign_in(browser, base_url, deps):
        browser.open(base_url)
        browser.find("a[href='/login']").click()
        browser.find("input[name=username]").fill(deps["sso"]["username"])
"""

import json
import os
import ssl
import urllib.error
import urllib.request
from types import MappingProxyType

import pytest

VARIABLE = "ASSAY_CONTEXT"
# The form of the context that this was written for: schemas/recipe-context.schema.json.
FORMAT = 1
# What `python3 -m pytest` ends with when it was called in the wrong way.
USAGE_ERROR = 4
# How long an element may take to be there, in seconds, and the browser to answer.
WAIT, ANSWER = 10, 120
# What WebDriver calls an element by in its answers.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


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


class BrowserError(Exception):
    """The browser did not do what it was told; the message is its own."""


class Browser:
    """A session in the browser that Assay has brought, by plain WebDriver. Elements are found by CSS selectors."""

    def __init__(self, webdriver_url, capabilities):
        self._base = webdriver_url
        asked = {"capabilities": {"alwaysMatch": capabilities}}
        self._base += "/session/" + self._ask("POST", "/session", asked)["sessionId"]
        self._ask("POST", "/timeouts", {"implicit": WAIT * 1000})

    def open(self, url):
        """Goes to an address, and waits until the page is loaded."""
        self._ask("POST", "/url", {"url": url})

    @property
    def url(self):
        """Where it is."""
        return self._ask("GET", "/url")

    @property
    def title(self):
        """The page's title."""
        return self._ask("GET", "/title")

    @property
    def source(self):
        """The page as it is by now."""
        return self._ask("GET", "/source")

    @property
    def text(self):
        """The words that somebody sees on the page."""
        return self.find("body").text

    def find(self, selector):
        """The first element that a selector fits; waits until there is one."""
        return Element(self, self._ask("POST", "/element", {"using": "css selector", "value": selector}))

    def find_all(self, selector):
        """All of them; waits until there is one, and is empty where there is none even then."""
        found = self._ask("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, one) for one in found]

    def run(self, script, *arguments):
        """What a script returns: `browser.run("return document.cookie")`."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def close(self):
        """Ends the session."""
        self._ask("DELETE", "")

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        # No proxy: it is in the run's own network.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ANSWER) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            said = error.read()
            try:
                value = json.loads(said)["value"]
                message = f"{value['error']}: {value['message'].splitlines()[0]}"
            except (ValueError, LookupError, TypeError, AttributeError):
                message = f"{error}: {said[:200]!r}"
            raise BrowserError(message) from None
        except OSError as error:
            raise BrowserError(f"the browser does not answer: {error}") from error


class Element:
    """Something on a page."""

    def __init__(self, browser, found):
        self._browser, self._path = browser, f"/element/{found[ELEMENT]}"

    @property
    def text(self):
        """The words that somebody sees in it."""
        return self._browser._ask("GET", f"{self._path}/text")

    def attribute(self, name):
        """The value of an attribute; None where it has none."""
        return self._browser._ask("GET", f"{self._path}/attribute/{name}")

    def click(self):
        """Clicks on it; where that leads to another page, waits until it is loaded."""
        self._browser._ask("POST", f"{self._path}/click", {})

    def fill(self, text):
        """Types into it, instead of what is there."""
        self._browser._ask("POST", f"{self._path}/clear", {})
        self._browser._ask("POST", f"{self._path}/value", {"text": text})


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


@pytest.fixture
def browser(assay):
    """A browser with a fresh profile that trusts the app's certificate, for tests in `browser/`."""
    brought = assay.get("browser")
    if brought is None:
        pytest.fail("there is a browser for tests in `browser/` alone; move this test there", pytrace=False)
    session = Browser(brought["webdriver_url"], _thawed(brought["capabilities"]))
    yield session
    session.close()


def _thawed(value):
    if isinstance(value, MappingProxyType):
        return {name: _thawed(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_thawed(item) for item in value]
    return value


def pytest_report_header(config):
    """Says on top of the output what is tested. Nothing where there is no context: the fixtures say why."""
    try:
        context = load()
    except ContextError:
        return None
    recipe = context["recipe"]
    operation = f", after {context['op']['name']}" if context["op"] else ""
    return f"assay: {recipe['name']} {recipe['version'] or '(no version)'}{operation}"
