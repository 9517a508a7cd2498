//! The page that lists every key, made from the list of keys. A test holds the page in the tree to it.

use super::registry::{KEYS, Key, Status};

/// The tables of `docs/reference/recipe-settings.md`, in Markdown: for each table of the file one table of its keys.
pub fn docs_table() -> String {
    page(KEYS)
}

fn page(keys: &[Key]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut open = "";
    for key in keys {
        if key.table() != open {
            open = key.table();
            let heading = if key.is_of_list() { format!("[[{open}]]") } else { format!("[{open}]") };
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("## `{heading}`\n"));
            lines.push("| key | what | default | since | |\n|---|---|---|---|---|".to_owned());
        }
        lines.push(row(key));
    }
    lines.join("\n") + "\n"
}

fn row(key: &Key) -> String {
    let default = match key.default {
        "" if key.status == Status::Required => "needed".to_owned(),
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    };
    let doc = match key.status {
        Status::Replaced { since, by } => {
            format!("Called `{by}` since {since}, and read as that with a warning")
        }
        Status::Current | Status::Required => key.doc.to_owned(),
    };
    format!("| `{}` | {} | {default} | {} | {doc} |", key.field(), key.kind.words(), key.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::registry::Kind;

    #[test]
    fn a_replaced_key_names_what_replaced_it() {
        let old = Key {
            name: "http.wait",
            kind: Kind::Time(1, 60),
            default: "\"60s\"",
            doc: "How long the answer may take",
            since: "0.1",
            status: Status::Replaced { since: "0.2", by: "http.timeout" },
        };
        insta::assert_snapshot!(page(&[old]), @r#"
        ## `[http]`

        | key | what | default | since | |
        |---|---|---|---|---|
        | `wait` | time | `"60s"` | 0.1 | Called `http.timeout` since 0.2, and read as that with a warning |
        "#);
    }
}
