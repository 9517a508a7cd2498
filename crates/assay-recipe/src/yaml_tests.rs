use std::fmt::Write as _;

use insta::assert_snapshot;

use super::*;

fn show(yaml: &Yaml) -> String {
    fn walk(yaml: &Yaml, path: &str, out: &mut String) {
        match &yaml.node {
            Node::Null => writeln!(out, "{}: {path} = nothing", yaml.line).unwrap(),
            Node::Scalar(scalar) => {
                let quotes = if scalar.plain { "" } else { "quoted " };
                writeln!(out, "{}: {path} = {quotes}{}", yaml.line, scalar.text.escape_debug()).unwrap();
            }
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(item, &format!("{path}[{index}]"), out);
                }
            }
            Node::Map(map) => {
                for (key, value) in map {
                    walk(value, &format!("{path}.{key}"), out);
                }
            }
        }
    }
    let mut out = String::new();
    walk(yaml, "", &mut out);
    out
}

#[test]
fn what_was_written_stays_as_it_was_written() {
    let yaml = parse(
        "compose.yml",
        "version: 3.80\n\
         mode: 0444\n\
         quoted: \"0444\"\n\
         octal: 0o755\n\
         yes: yes\n\
         no: 'no'\n\
         true: True\n\
         big: 123456789012345678901234567890\n\
         float: 1e3\n\
         infinite: .inf\n\
         nil: ~\n\
         nothing:\n\
         80: 8080:80\n\
         folded: >\n  one\n  two\n\
         list: [1.0, -0x1F, ünïcode: 3.10]\n\
         several: one\n  two\n",
    )
    .unwrap();
    assert_snapshot!(show(&yaml), @r"
    1: .version = 3.80
    2: .mode = 0444
    3: .quoted = quoted 0444
    4: .octal = 0o755
    5: .yes = yes
    6: .no = quoted no
    7: .true = True
    8: .big = 123456789012345678901234567890
    9: .float = 1e3
    10: .infinite = .inf
    11: .nil = nothing
    12: .nothing = nothing
    13: .80 = 8080:80
    15: .folded = quoted one two\n
    17: .list[0] = 1.0
    17: .list[1] = -0x1F
    17: .list[2].ünïcode = 3.10
    18: .several = quoted one two
    ");
}

#[test]
fn anchors_and_merge_keys_are_expanded() {
    let yaml = parse(
        "compose.yml",
        "x-env: &env\n  A: 1.50\n  B: two\n  MODE: 0444\nx-more: &more {C: '3', A: 9}\n\
         app:\n  environment:\n    <<: *env\n    B: mine\n\
         db:\n  environment:\n    <<: [*env, *more]\n    D: &d 0755\n  same: *d\n",
    )
    .unwrap();
    assert_snapshot!(show(&yaml), @r"
    2: .x-env.A = 1.50
    3: .x-env.B = two
    4: .x-env.MODE = 0444
    5: .x-more.C = quoted 3
    5: .x-more.A = 9
    9: .app.environment.B = mine
    2: .app.environment.A = 1.50
    4: .app.environment.MODE = 0444
    13: .db.environment.D = 0755
    2: .db.environment.A = 1.50
    3: .db.environment.B = two
    4: .db.environment.MODE = 0444
    5: .db.environment.C = quoted 3
    13: .db.same = 0755
    ");
}

#[test]
fn what_is_wrong_has_its_place() {
    let mut said = String::new();
    for (what, text) in [
        ("duplicate", "a: 1\nservices:\n  app: 1\n  app: 2\n"),
        ("duplicate number", "80: 1\n80: 2\n"),
        ("tab", "a:\n\tb: 1\n"),
        ("unclosed", "a: [1, 2\nb: 3\n"),
        ("unknown anchor", "a: *nothing\n"),
        ("two documents", "a: 1\n---\nb: 2\n"),
        ("list as key", "? [a, b]\n: 1\n"),
    ] {
        let problem = parse("compose.yml", text).expect_err(what);
        writeln!(said, "{what}: {problem}").unwrap();
    }
    assert_snapshot!(said, @r"
    duplicate: compose.yml:4: `app` is given twice in one map; keep one of them
    duplicate number: compose.yml:2: `80` is given twice in one map; keep one of them
    tab: compose.yml:2: this is no YAML that can be read: tabs disallowed within this context (block indentation)
    unclosed: compose.yml:2: this is no YAML that can be read: illegal placement of ':' indicator
    unknown anchor: compose.yml:1: this is no YAML that can be read: alias references unknown anchor
    two documents: compose.yml:3: there is a second document behind `---`; a compose file is one: split the file
    list as key: compose.yml:1: this is no YAML that can be read: expected string scalar
    ");
}

#[test]
fn hostile_files_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        writeln!(bomb, "a{level}: &a{level} [{below}]").unwrap();
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_block: Vec<String> = (0..1000).map(|depth| format!("{}a:", " ".repeat(depth))).collect();
    let mut said = String::new();
    for (what, text) in [
        ("bomb", bomb),
        ("deep", deep),
        ("deep in blocks", deep_block.join("\n")),
        ("fat", format!("a: &a \"{}\\n\"\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(10_000))),
        ("long key", format!("{}: 1\n", "k".repeat(300))),
        ("itself", "a: &a [*a]\n".to_owned()),
        ("long", "a: b\n".repeat(1 << 20)),
        ("many", "- a\n".repeat(100_000)),
    ] {
        let problem = parse("compose.yml", &text).expect_err(what);
        writeln!(said, "{what}: {problem}").unwrap();
    }
    assert_snapshot!(said, @r"
    bomb: compose.yml:5: it is longer or deeper, or repeats more, than any recipe: alias replay limit exceeded: total_replayed_events=20001 > 20000; write it out plainly
    deep: compose.yml:1: it is longer or deeper, or repeats more, than any recipe: recursion limit exceeded; write it out plainly
    deep in blocks: compose.yml:49: it is longer or deeper, or repeats more, than any recipe: budget breached: Depth { depth: 49 }; write it out plainly
    fat: compose.yml:2: it is longer or deeper, or repeats more, than any recipe: budget breached: ScalarBytes { total_scalar_bytes: 4500011 }; write it out plainly
    long key: compose.yml: a key of 300 characters; at most 256 are read
    itself: compose.yml:1: this is no YAML that can be read: recursive references require weak recursion types
    long: compose.yml: it has 5242880 bytes; at most 1048576 are read: shorten it
    many: compose.yml:20000: it is longer or deeper, or repeats more, than any recipe: budget breached: Nodes { nodes: 20001 }; write it out plainly
    ");
}

#[test]
fn numbers_and_booleans_are_those_of_yaml_1_1() {
    assert_eq!(integer("0444"), Some(0o444));
    assert_eq!(integer("0o444"), Some(0o444));
    assert_eq!(integer("444"), Some(444));
    assert_eq!(integer("0x1f"), Some(31));
    assert_eq!(integer("1_000"), Some(1000));
    assert_eq!(integer("0"), Some(0));
    assert_eq!(integer("-5"), Some(-5));
    for text in ["", "-", "0x", "08", "1.5", "v1", "+-1", "1 2"] {
        assert_eq!(integer(text), None, "{text}");
    }
    assert_eq!(boolean("yes"), Some(true));
    assert_eq!(boolean("Off"), Some(false));
    assert_eq!(boolean("maybe"), None);
}
