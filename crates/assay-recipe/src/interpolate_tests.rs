use std::fmt::Write as _;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "STACK_NAME" => Some("blog_example_org".to_owned()),
        "DOMAIN" => Some("blog.example.org".to_owned()),
        "EMPTY" => Some(String::new()),
        "DOLLAR" => Some("${DOMAIN}".to_owned()),
        _ => None,
    }
}

#[test]
fn every_form_is_read() {
    let mut said = String::new();
    for text in [
        "plain",
        "$STACK_NAME",
        "${STACK_NAME}_db_${SECRET_DB_VERSION:-v1}",
        "Host(`${DOMAIN}`${EXTRA_DOMAINS})",
        "${EMPTY:-soft}|${EMPTY-hard}|${NONE:-soft}|${NONE-hard}",
        "${EMPTY:+soft}|${EMPTY+hard}|${DOMAIN:+soft}|${NONE+hard}",
        "${NONE:-${OTHER:-${DOMAIN}}}",
        "${NONE:-a $$ and } behind",
        "cost: $$5, $${DOMAIN}",
        "${DOLLAR}",
        "${NONE}",
        "${DOMAIN:?needed}",
        "$DOMAIN-backup",
        "${NONE:-}",
        "ünï ${DOMAIN} cöde",
    ] {
        let filled = interpolate(text, &lookup).unwrap();
        write!(said, "{text} => {}", filled.text).unwrap();
        for remark in filled.remarks {
            write!(said, "  {remark:?}").unwrap();
        }
        said.push('\n');
    }
    assert_snapshot!(said, @r#"
    plain => plain
    $STACK_NAME => blog_example_org
    ${STACK_NAME}_db_${SECRET_DB_VERSION:-v1} => blog_example_org_db_v1
    Host(`${DOMAIN}`${EXTRA_DOMAINS}) => Host(`blog.example.org`)  Unset { name: "EXTRA_DOMAINS" }
    ${EMPTY:-soft}|${EMPTY-hard}|${NONE:-soft}|${NONE-hard} => soft||soft|hard
    ${EMPTY:+soft}|${EMPTY+hard}|${DOMAIN:+soft}|${NONE+hard} => |hard|soft|  NotInStackDeploy { form: "${EMPTY:+soft}" }  NotInStackDeploy { form: "${EMPTY+hard}" }  NotInStackDeploy { form: "${DOMAIN:+soft}" }  NotInStackDeploy { form: "${NONE+hard}" }
    ${NONE:-${OTHER:-${DOMAIN}}} => blog.example.org  NotInStackDeploy { form: "${NONE:-${OTHER:-${DOMAIN}}}" }  NotInStackDeploy { form: "${OTHER:-${DOMAIN}}" }
    ${NONE:-a $$ and } behind => a $ and  behind  NotInStackDeploy { form: "${NONE:-a $$ and }" }
    cost: $$5, $${DOMAIN} => cost: $5, ${DOMAIN}
    ${DOLLAR} => ${DOMAIN}
    ${NONE} =>   Unset { name: "NONE" }
    ${DOMAIN:?needed} => blog.example.org
    $DOMAIN-backup => blog.example.org-backup  NotInStackDeploy { form: "$DOMAIN-b" }
    ${NONE:-} => 
    ünï ${DOMAIN} cöde => ünï blog.example.org cöde
    "#);
}

#[test]
fn errors_point_to_the_place() {
    let mut said = String::new();
    for text in [
        "ü $",
        "costs $5",
        "a ${DOMAIN",
        "${}",
        "${1X}",
        "a ${DOMAIN!x}",
        "${DOMAIN:}",
        "${NONE:?set it to the mail server}",
        "${NONE?}",
        "${EMPTY:?must not be empty}",
        "${DOMAIN:-a $ b}",
        "${DOMAIN:-${X}",
        &"${A:-".repeat(40),
        &format!("{}{}", "${A:-".repeat(40), "}".repeat(40)),
    ] {
        writeln!(said, "{} => {}", &text[..text.len().min(40)], interpolate(text, &lookup).unwrap_err())
            .unwrap();
    }
    assert_snapshot!(said, @r"
    ü $ => character 3: a `$` without the name of a variable; write `$$` for the character itself
    costs $5 => character 7: a `$` without the name of a variable; write `$$` for the character itself
    a ${DOMAIN => character 3: `${` without its `}`; close it, or write `$${` for the characters themselves
    ${} => character 1: a `$` without the name of a variable; write `$$` for the character itself
    ${1X} => character 1: a `$` without the name of a variable; write `$$` for the character itself
    a ${DOMAIN!x} => character 3: `!x` behind the name of a variable; write `${X}`, `${X:-default}` or `${X:?message}`
    ${DOMAIN:} => character 1: `:` behind the name of a variable; write `${X}`, `${X:-default}` or `${X:?message}`
    ${NONE:?set it to the mail server} => variable `NONE` must be set: set it to the mail server
    ${NONE?} => variable `NONE` must be set: give it a value in `.env`
    ${EMPTY:?must not be empty} => variable `EMPTY` must be set: must not be empty
    ${DOMAIN:-a $ b} => character 13: a `$` without the name of a variable; write `$$` for the character itself
    ${DOMAIN:-${X} => character 1: `${` without its `}`; close it, or write `$${` for the characters themselves
    ${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:- => character 1: `${` without its `}`; close it, or write `$${` for the characters themselves
    ${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:- => character 86: defaults are nested more than 16 deep; set the variable instead
    ");
}

#[test]
fn variables_are_listed_once() {
    assert_eq!(variables("${STACK_NAME}_x_${V:-${W}}_$STACK_NAME $$NOT"), ["STACK_NAME", "V", "W"]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\$\\{\\}:?+\\-A-Za-z ü0-9]{0,60}") {
        let _ = interpolate(&text, &lookup);
        let _ = variables(&text);
    }

    #[test]
    fn a_text_without_dollars_stays(text in "[^$]{0,60}") {
        prop_assert_eq!(interpolate(&text, &lookup).unwrap().text, text);
    }

    #[test]
    fn doubled_dollars_give_the_text_back(text in any::<String>()) {
        prop_assert_eq!(interpolate(&text.replace('$', "$$"), &lookup).unwrap().text, text);
    }
}
