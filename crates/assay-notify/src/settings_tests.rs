//! Settings that are right, and every way in which they can be wrong.

use super::*;
use crate::sink::SinkKind;

const GOOD: &str = r#"
base_url = "https://assay.example.net/"

[[webhook]]
name = "ops"
url = "https://hooks.example.net/T000/secret-path"
secret = "0123456789abcdef0123456789abcdef"
events = ["RunHeld", "RunCompleted"]
title = "{{ host }}: {{ event }}"
deduplicates = true

[[ntfy]]
name = "phone"
server = "https://ntfy.example.net/base/"
topic = "rack7"

[[email]]
name = "team"
server = "mail.example.net"
user = "assay"
password = "correct horse"
from = "Assay <assay@example.net>"
to = ["ops@example.net", "Ada <ada@example.net>"]

[[matrix]]
name = "room"
homeserver = "https://matrix.example.net"
room = "!abc:example.net"
token = "syt_x"
"#;

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(text, Path::new("/etc/assay/notify.toml"))
}

/// Line, column, message and what is shown of a mistake.
fn wrong(text: &str) -> (usize, usize, String, String) {
    match parse(text).expect_err("a mistake") {
        SettingsError::Wrong { line, column, message, shown, .. } => (line, column, message, shown),
        SettingsError::File { path, why } => panic!("{}: {why}", path.display()),
    }
}

#[test]
fn a_whole_file() {
    let settings = parse(GOOD).expect("valid");
    assert_eq!(settings.base_url.as_deref(), Some("https://assay.example.net"));
    let sinks: Vec<_> =
        settings.sinks.iter().map(|s| (s.name(), s.kind(), s.place(), s.drops_repeats())).collect();
    assert_eq!(
        sinks,
        [
            ("ops", SinkKind::Webhook, "hooks.example.net".to_owned(), true),
            ("phone", SinkKind::Ntfy, "ntfy.example.net".to_owned(), false),
            ("team", SinkKind::Email, "ops@example.net, ada@example.net".to_owned(), false),
            ("room", SinkKind::Matrix, "!abc:example.net".to_owned(), true),
        ]
    );
    assert!(settings.sinks[0].wants("RunHeld") && !settings.sinks[0].wants("RunStarted"));
    assert!(settings.sinks[0].wants(crate::TEST_EVENT), "a test goes to every sink");
    assert!(settings.sinks[1].wants("FromTheFuture"));
    let Target::Ntfy(ntfy) = &settings.sinks[1].target else { panic!("{:?}", settings.sinks[1]) };
    assert_eq!(ntfy.url.as_str(), "https://ntfy.example.net/base/rack7");
    assert!(parse("").expect("nothing is valid").sinks.is_empty());
}

#[test]
fn no_secret_is_ever_printed() {
    let shown = format!("{:?}", parse(GOOD).expect("valid"));
    for secret in ["0123456789abcdef", "correct horse", "syt_x"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn an_unknown_key_is_shown_in_its_line() {
    let (line, column, message, shown) =
        wrong("[[ntfy]]\nname = \"a\"\nserver = \"https://n.example\"\ntopc = \"x\"\n");
    assert_eq!((line, column), (4, 1));
    assert!(message.contains("unknown field `topc`") && message.contains("`topic`"), "{message}");
    assert_eq!(shown, "  |\n4 | topc = \"x\"\n  | ^^^^");
    assert!(wrong("[[sms]]\nname = \"a\"\n").2.contains("unknown field `sms`"));
}

#[test]
fn an_unknown_event_is_marked() {
    let text = "[[ntfy]]\nname = \"a\"\nserver = \"https://n.example\"\ntopic = \"x\"\nevents = [\"RunHeld\", \"RunHold\"]\n";
    let (line, column, message, shown) = wrong(text);
    assert_eq!((line, column), (5, 22));
    assert!(message.starts_with("there is no event `RunHold`; there are RunStarted, "), "{message}");
    assert_eq!(shown, "  |\n5 | events = [\"RunHeld\", \"RunHold\"]\n  |                      ^^^^^^^^^");
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    let text = "[[ntfy]]\nname = \"a\"\nserver = \"https://n.example\"\ntopic = \"x\"\nbody = \"\"\"\nfirst\n{{ hots }}\n\"\"\"\n";
    let (line, _, message, _) = wrong(text);
    assert_eq!(line, 5);
    assert!(message.starts_with("line 2 of this template: undefined value"), "{message}");
}

#[test]
fn a_mistake_in_a_secret_does_not_show_it() {
    let text = "[[webhook]]\nname = \"a\"\nurl = \"https://h.example\"\nsecret = \"hunter2\"\n";
    let all = parse(text).expect_err("too short").to_string();
    assert!(all.starts_with("/etc/assay/notify.toml:4:10: a secret of 7 bytes"), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn every_other_mistake_is_placed_and_says_what_to_do() {
    let ntfy = "[[ntfy]]\nname = \"a\"\nserver = \"https://n.example\"\ntopic = \"x\"\n";
    let email =
        "[[email]]\nname = \"a\"\nserver = \"m.example\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n";
    let cases = [
        (format!("base_url = \"assay\"\n{ntfy}"), 1, "write http://… or https://…"),
        (ntfy.replace("https://n.example", "ftp://n.example"), 3, "write http://… or https://…"),
        (ntfy.replace("\"a\"", "\"a b\""), 2, "a name has letters"),
        (ntfy.replace("\"x\"", "\"x/y\""), 4, "a topic has letters"),
        (format!("{ntfy}{ntfy}"), 6, "name each differently"),
        (format!("{ntfy}token_file = \"no/such\"\n"), 5, "No such file"),
        (format!("{ntfy}token = \"t\"\ntoken_file = \"f\"\n"), 6, "not both"),
        (format!("{ntfy}token = \"\"\n"), 5, "not empty"),
        (format!("{ntfy}ca_file = \"no/such\"\n"), 5, "No such file"),
        (email.replace("m.example", "smtp://m.example"), 3, "mail server's name alone"),
        (email.replace("c@d.example", "nobody"), 5, "write ops@example.net"),
        (email.replace("[\"c@d.example\"]", "[]"), 5, "at least one address"),
        (format!("{email}user = \"u\"\n"), 6, "needs `password`"),
        (format!("{email}password = \"p\"\n"), 6, "needs a `user`"),
        (format!("{email}user = \"u\"\npassword = \"p\"\ntls = \"none\"\n"), 6, "travel in clear"),
        (format!("{email}tls = \"ssl\"\n"), 6, "unknown variant `ssl`"),
        ("[[matrix]]\nname = \"a\"\nhomeserver = \"https://m.example\"\nroom = \"#a:m.example\"\ntoken = \"t\"\n".into(), 4, "begins with `!`"),
        ("[[matrix]]\nname = \"a\"\nhomeserver = \"https://m.example\"\nroom = \"!a:m.example\"\n".into(), 2, "needs `token`"),
        ("base_url = \n".into(), 1, ""),
    ];
    for (text, line, said) in cases {
        let (at, _, message, shown) = wrong(&text);
        assert!(at == line && message.contains(said), "{text}\n{at}: {message}\n{shown}");
    }
}

#[test]
fn secrets_come_from_files_beside_the_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify.toml");
    std::fs::write(folder.path().join("token"), "tk_abc\n").expect("written");
    std::fs::write(
        &path,
        "[[ntfy]]\nname = \"a\"\nserver = \"https://n.example\"\ntopic = \"x\"\ntoken_file = \"token\"\n",
    )
    .expect("written");
    let settings = Settings::load(&path).expect("valid");
    let Target::Ntfy(ntfy) = &settings.sinks[0].target else { panic!("{:?}", settings.sinks[0]) };
    assert_eq!(ntfy.token, Some(Secret("tk_abc".into())));
    let missing = Settings::load(&folder.path().join("other.toml")).expect_err("no file").to_string();
    assert!(missing.contains("other.toml: No such file"), "{missing}");
}
