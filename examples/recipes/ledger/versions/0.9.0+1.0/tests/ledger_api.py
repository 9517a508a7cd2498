"""How tests and hooks of this recipe talk to the app. No test itself: Assay takes no file at the top for one that is not
called after an operation."""
import json, os, ssl, urllib.request

with open(os.environ["ASSAY_CONTEXT"]) as file:
    CONTEXT = json.load(file)


def entries():
    """All entries, the oldest first."""
    return ask("/api/entries")


def add(note, amount):
    """Writes an entry."""
    return ask("/api/entries", json.dumps({"note": note, "amount": amount}).encode())


def ask(path, body=None):
    trust = ssl.create_default_context(cafile=CONTEXT["paths"]["ca_file"])
    request = urllib.request.Request(CONTEXT["base_url"] + path, data=body)
    with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
        return json.load(answer)
