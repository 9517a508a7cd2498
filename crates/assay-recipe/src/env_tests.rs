use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

fn show(env: &EnvFile) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for (what, settings) in [("set", &env.settings), ("offered", &env.offered)] {
        for setting in settings {
            let value = setting.value.escape_debug();
            write!(out, "{what} {}: {} = {value}", setting.line, setting.name).unwrap();
            for (key, value) in &setting.modifiers {
                write!(out, " [{key}={value}]").unwrap();
            }
            out.push('\n');
        }
    }
    for (name, line) in &env.unset {
        writeln!(out, "unset {line}: {name}").unwrap();
    }
    out
}

#[test]
fn a_sample_is_read_with_what_it_offers() {
    let env = EnvFile::parse(
        ".env.sample",
        "\u{feff}TYPE=bonfire\n\
         DOMAIN=bonfire.example.com\n\
         ## Domain aliases\n\
         #EXTRA_DOMAINS=', `www.bonfire.example.com`'\n\
         LETS_ENCRYPT_ENV=production\n\
         COMPOSE_FILE=\"compose.yml\"\n\
         COMPOSE_FILE=\"$COMPOSE_FILE:compose.postgres.yml\"   # the database\n\
         # COMPOSE_FILE=\"$COMPOSE_FILE:compose.smtp.yml\"\n\
         #SECRET_SMTP_PASSWORD_VERSION=v1 # generate=false\n\
         \n\
         SECRET_DB_PASSWORD_VERSION=v1 # length=64 charset=hex\n\
         SECRET_KEY_VERSION=v2\t# length=128, charset=special\n\
         # this is prose, where a=b stands\n\
         EMPTY=\n\
         ALSO_EMPTY= # nothing\n\
         COLOUR=#ff0000\n\
         SINGLE='$DOMAIN #1'\n\
         DOUBLE=\"a \\\"b\\\" \\$DOMAIN ${DOMAIN} ${NOTHING:-default}\\n\"\n\
         URL=https://$DOMAIN/x?a=1#top\n\
         PATTERN=^[a-z]+$\n\
         MISSING=$NOWHERE/x\n\
         SEVERAL=\"one\n  two\"\n\
         export SHELL_LIKE=yes\r\n\
         HASH=$2y$10$abc\n",
    )
    .unwrap();
    assert_snapshot!(show(&env), @r#"
    set 1: TYPE = bonfire
    set 2: DOMAIN = bonfire.example.com
    set 5: LETS_ENCRYPT_ENV = production
    set 6: COMPOSE_FILE = compose.yml
    set 7: COMPOSE_FILE = compose.yml:compose.postgres.yml
    set 11: SECRET_DB_PASSWORD_VERSION = v1 [length=64] [charset=hex]
    set 12: SECRET_KEY_VERSION = v2 [length=128] [charset=special]
    set 14: EMPTY = 
    set 15: ALSO_EMPTY = 
    set 16: COLOUR = #ff0000
    set 17: SINGLE = $DOMAIN #1
    set 18: DOUBLE = a \"b\" $DOMAIN bonfire.example.com default\n
    set 19: URL = https://bonfire.example.com/x?a=1#top
    set 20: PATTERN = ^[a-z]+$
    set 21: MISSING = /x
    set 22: SEVERAL = one\n  two
    set 24: SHELL_LIKE = yes
    set 25: HASH = $2y$10
    offered 4: EXTRA_DOMAINS = , `www.bonfire.example.com`
    offered 8: COMPOSE_FILE = $COMPOSE_FILE:compose.smtp.yml
    offered 9: SECRET_SMTP_PASSWORD_VERSION = v1 [generate=false]
    unset 21: NOWHERE
    unset 25: abc
    "#);
    assert_eq!(env.compose_files(), ["compose.yml", "compose.postgres.yml"]);
    assert_eq!(
        env.combinations(),
        [
            vec!["compose.yml", "compose.postgres.yml"],
            vec!["compose.yml", "compose.postgres.yml", "compose.smtp.yml"]
        ]
    );
    assert_eq!(env.values_with_offered()["SECRET_SMTP_PASSWORD_VERSION"], "v1");
}

#[test]
fn every_bad_line_is_told() {
    let error = EnvFile::parse(
        ".env",
        "GOOD=1\nno setting\n=x\n1ST=x\nA B=c\nBEHIND=\"x\" y\nBRACE=${DOMAIN\nOPEN=\"never closed\nX=1\n",
    )
    .unwrap_err();
    assert_snapshot!(error, @r#"
    .env:2: `no setting` sets nothing; write `NAME=value`, or `#` before a comment
    .env:3: `` is not the name of a variable; use letters, digits and `_`
    .env:4: `1ST` is not the name of a variable; use letters, digits and `_`
    .env:5: `A B` is not the name of a variable; use letters, digits and `_`
    .env:6: `y` stands behind the closing quote of `BEHIND`; put it inside, or `#` before it
    .env:7: BRACE: `${DOMAIN` cannot be read as a variable; write `${NAME}`, or put the value in single quotes
    .env:8: a `"` is not closed; close it, or escape it
    "#);
}

#[test]
fn whoever_deploys_gives_values() {
    let text =
        "DOMAIN=x.example.com\nSECRET_A_VERSION=v1 # length=9\n#SECRET_B_VERSION=v1 # generate=false\n";
    let mut env = EnvFile::parse(".env.sample", text).unwrap();
    env.set("DOMAIN", "$mine");
    env.set("SECRET_A_VERSION", "v2");
    env.set("SECRET_B_VERSION", "v3");
    env.set("NEW", "");
    assert_snapshot!(show(&env), @r"
    set 1: DOMAIN = $mine
    set 2: SECRET_A_VERSION = v2 [length=9]
    set 0: SECRET_B_VERSION = v3 [generate=false]
    set 0: NEW = 
    offered 3: SECRET_B_VERSION = v1 [generate=false]
    ");
    assert_eq!(env.values().len(), 4);
}

#[test]
fn values_that_double_themselves_are_refused() {
    let text = format!("X=0123456789\n{}", "X=$X$X\n".repeat(60));
    let Problems(problems) = EnvFile::parse(".env", &text).unwrap_err();
    assert_snapshot!(problems[0], @".env:15: X: its value is longer than 65536 bytes; does it repeat itself?");
    let many = format!("X={}", "${A}".repeat(200_000));
    assert!(EnvFile::parse(".env", &many).is_ok());
}

#[test]
fn an_env_file_of_docker_is_taken_literally() {
    let settings =
        docker_env_file("app.env", "# comment\nA=\"quoted\" # kept\nB=$A\nHOME\n  C=  x\n").unwrap();
    assert_snapshot!(format!("{settings:?}"), @r#"[("A", Some("\"quoted\" # kept")), ("B", Some("$A")), ("HOME", None), ("C", Some("  x"))]"#);
    let error = docker_env_file("app.env", "A=1\nB C=2\n=3\n").unwrap_err();
    assert_snapshot!(error, @r"
    app.env:2: `B C` is not the name of a variable; write `NAME=value`
    app.env:3: `` is not the name of a variable; write `NAME=value`
    ");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[A-Z=\"'#$\\{\\}\\\\ \n\tü:-]{0,80}") {
        if let Ok(env) = EnvFile::parse(".env", &text) {
            let _ = env.combinations();
            let _ = env.values_with_offered();
        }
        let _ = docker_env_file("x", &text);
    }

    #[test]
    fn what_is_single_quoted_comes_back(value in "[^'\n\r]{0,40}") {
        let env = EnvFile::parse(".env", &format!("X='{value}'")).unwrap();
        prop_assert_eq!(env.get("X"), Some(value.as_str()));
    }

    #[test]
    fn later_lines_see_earlier_ones(names in proptest::collection::vec("[A-D]", 1..6)) {
        let lines: Vec<String> = names.iter().map(|name| format!("{name}=\"${{{name}:-0}}1\"")).collect();
        let text = lines.join("\n");
        let env = EnvFile::parse(".env", &text).unwrap();
        for name in &names {
            let times = names.iter().filter(|other| *other == name).count();
            let expected = format!("0{}", "1".repeat(times));
            prop_assert_eq!(env.get(name), Some(expected.as_str()));
        }
    }
}
