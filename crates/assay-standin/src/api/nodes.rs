//! Plain registration: a node posts what it is, later says that it has joined, and is taken out again.

use serde_json::{Value, json};

use super::Asked;
use crate::{Deleted, Deletion, Event, Join, Node, Registration, reply::Reply, state::State};

/// A node's description has no use for more; each could multiply what has to be held.
const MOST_ALIASES: usize = 16;

/// `GET /v1/nodes`.
pub(super) fn list(state: &State) -> Reply {
    let nodes = state.book.with(|ledger| {
        let shown = |(name, node): (&String, &Node)| {
            json!({
                "name": name,
                "registered_at": node.registered_at.rfc3339(),
                "updated_at": node.updated_at.rfc3339(),
                "joined_at": node.joined_at.map(assay_model::Micros::rfc3339),
                "cluster_id": node.cluster_id,
                "document": node.document,
            })
        };
        ledger.nodes.iter().map(shown).collect::<Vec<_>>()
    });
    Reply::json(200, &json!({"nodes": nodes}))
}

/// `POST /v1/nodes`, and `PUT /v1/nodes/NAME` where `named`.
pub(super) fn register(state: &State, asked: &Asked, named: Option<&str>) -> Reply {
    let Ok(text) = std::str::from_utf8(asked.bytes()) else {
        return asked.problem(state, 400, "the body is not UTF-8");
    };
    let mut scrub = state.tokens.scrub();
    let text = scrub.text(text);
    let document = match read_document(&text) {
        Ok(document) => document,
        Err(problem) => return asked.problem(state, 400, &problem),
    };
    let Some(name) = name_of(&document).or(named) else {
        let message = "the node has no name: set metadata.name, spec.hostname, hostname or name";
        return asked.problem(state, 422, message);
    };
    if named.is_some_and(|named| named != name) {
        return asked.problem(state, 422, "the node's name differs from the one in the path");
    }
    if !is_host_name(name) {
        return asked.problem(state, 422, "the node's name is not a host name (RFC 1123, one label)");
    }
    if !state.book.has_room(text.len() * 2 + 4096) {
        return asked.problem(state, 503, "nothing more can be recorded").note("limits.ledger_bytes");
    }
    let name = name.to_owned();
    let registration = |replaced| Registration {
        at: asked.at,
        request: asked.id,
        name: name.clone(),
        replaced,
        text: text.clone(),
        document: document.clone(),
        by: asked.who.clone(),
        leaks: scrub.leaks(),
    };
    // Under one lock, or two machines of one name would both be new.
    let recorded = state.book.record_if(|ledger| {
        let replaced = ledger.nodes.contains_key(&name);
        (named.is_some() || !replaced).then(|| Event::Registered(registration(replaced)))
    });
    match recorded {
        Some(Event::Registered(Registration { replaced, .. })) => {
            let status = if replaced { 200 } else { 201 };
            let reply = Reply::json(status, &json!({"name": name, "replaced": replaced}));
            reply.header("location", &format!("/v1/nodes/{name}")).changed()
        }
        _ => asked.problem(state, 409, &format!("{name} is registered; PUT /v1/nodes/{name} replaces it")),
    }
}

/// `DELETE /v1/nodes/NAME`.
pub(super) fn deregister(state: &State, asked: &Asked, name: &str) -> Reply {
    let recorded = state.book.record_if(|ledger| {
        ledger.nodes.contains_key(name).then(|| {
            let what = Deleted::Node { name: name.to_owned() };
            Event::Deleted(Deletion { at: asked.at, request: asked.id, what, by: asked.who.clone() })
        })
    });
    match recorded {
        Some(_) => Reply::empty(204).changed(),
        None => asked.problem(state, 404, "no node of that name is registered"),
    }
}

/// `POST /v1/nodes/NAME/joined`. A node that registers with Git is not known here, and says so all the same.
pub(super) fn joined(state: &State, asked: &Asked, name: &str) -> Reply {
    if !is_host_name(name) {
        return asked.problem(state, 422, "the node's name is not a host name (RFC 1123, one label)");
    }
    let Ok(text) = std::str::from_utf8(asked.bytes()) else {
        return asked.problem(state, 400, "the body is not UTF-8");
    };
    let mut scrub = state.tokens.scrub();
    let text = scrub.text(text);
    let body = if text.trim().is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
    let Ok(body) = body else {
        return asked.problem(state, 400, "the body is not JSON");
    };
    if !state.book.has_room(text.len() + 4096) {
        return asked.problem(state, 503, "nothing more can be recorded").note("limits.ledger_bytes");
    }
    let id = ["cluster_id", "clusterId", "cluster"].iter().find_map(|key| body.get(key));
    let cluster_id = id.and_then(Value::as_str).map(str::to_owned);
    let registered = state.book.with(|ledger| ledger.nodes.contains_key(name));
    state.book.record(Event::Joined(Join {
        at: asked.at,
        request: asked.id,
        name: name.to_owned(),
        cluster_id,
        body,
        registered,
        by: asked.who.clone(),
        leaks: scrub.leaks(),
    }));
    Reply::json(200, &json!({"name": name, "registered": registered})).changed()
}

/// One YAML document, of which JSON is a part; it has to be a map.
fn read_document(text: &str) -> Result<Value, String> {
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        budget.max_aliases = MOST_ALIASES;
    }
    let read: Result<Value, _> = serde_saphyr::from_str_with_options(text, options);
    match read {
        Ok(document) if document.is_object() => Ok(document),
        Ok(_) => Err("the body is not a map of YAML or JSON".to_owned()),
        Err(error) => {
            // The first line says what and where; the rest quotes the input.
            let said = error.to_string();
            Err(format!("the body is not YAML or JSON: {}", said.lines().next().unwrap_or_default()))
        }
    }
}

fn name_of(document: &Value) -> Option<&str> {
    let places = ["/metadata/name", "/spec/hostname", "/hostname", "/name"];
    places.iter().find_map(|place| document.pointer(place)).and_then(Value::as_str)
}

fn is_host_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::json;

    use super::{is_host_name, name_of, read_document};

    #[test]
    fn a_node_may_say_its_name_in_several_places_and_the_first_counts() {
        let read = |text| read_document(text).map(|it| name_of(&it).map(str::to_owned));
        assert_eq!(read("metadata: {name: a}\nname: b\n"), Ok(Some("a".into())));
        assert_eq!(read(r#"{"spec": {"hostname": "c"}}"#), Ok(Some("c".into())));
        assert_eq!(read("hostname: 7\n"), Ok(None));
        assert_eq!(read_document("a: [1, x, ~]\n"), Ok(json!({"a": [1, "x", null]})));
        for wrong in ["", "just words", "- 1\n", "a: 1\n---\nb: 2\n", "a: [", "\u{0}"] {
            assert!(read_document(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn documents_that_grow_when_they_are_read_are_refused() {
        let deep = "[".repeat(50_000);
        assert!(read_document(&format!("a: {deep}")).is_err());
        let mut laughs = String::from("a0: &a0 lol\n");
        for n in 1..40 {
            let _ = writeln!(laughs, "a{n}: &a{n} [{0}, {0}]", format!("*a{}", n - 1));
        }
        assert!(read_document(&laughs).is_err());
    }

    #[test]
    fn host_names_are_one_label() {
        for good in ["node-1a2b3c", "a", "0", &"x".repeat(63)] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "ä", &"x".repeat(64)] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_document_panics(text in "(\\PC|[\\[\\]{}:&*!|>'\"\n -]){0,80}") {
            let _ = read_document(&text);
        }
    }
}
