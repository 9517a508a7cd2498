"""How tests and hooks of this recipe talk to the app. No test itself: Assay takes no file at the top for one that is not
called after an operation."""
import json, os, ssl, urllib.request

with open(os.environ["ASSAY_CONTEXT"]) as file:
    CONTEXT = json.load(file)


def books():
    """All books, the oldest first."""
    return ask("/api/books")


def add(title):
    """Adds a book."""
    return ask("/api/books", json.dumps({"title": title}).encode())


def ask(path, body=None):
    trust = ssl.create_default_context(cafile=CONTEXT["paths"]["ca_file"])
    request = urllib.request.Request(CONTEXT["base_url"] + path, data=body)
    with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
        return json.load(answer)
