//! What Argo CD makes of a directory, case by case.

use serde_json::json;

use super::{Source, SourceError, Tree};
use crate::{Glob, object::ObjectKey};

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
}

/// The source of the `cluster-nodes-reconciler` Application.
fn nodes() -> Source {
    Source {
        path: "maintainers".to_owned(),
        recurse: true,
        include: Some(Glob::new("**/cluster-nodes/**/*.yaml").unwrap()),
        exclude: None,
    }
}

fn everything() -> Source {
    Source { path: String::new(), recurse: true, include: None, exclude: None }
}

fn names(source: &Source, files: &[(&str, &str)]) -> Vec<String> {
    let manifests = source.manifests(&tree(files)).unwrap();
    manifests.iter().map(|manifest| ObjectKey::of(&manifest.object).name).collect()
}

fn problem(source: &Source, files: &[(&str, &str)]) -> String {
    source.manifests(&tree(files)).unwrap_err().to_string()
}

fn node(name: &str) -> String {
    format!("apiVersion: zeta.example/v1\nkind: ClusterNode\nmetadata:\n  name: {name}\n")
}

#[test]
fn only_registrations_are_taken() {
    let (a, b, c, d) = (node("a"), node("b"), node("c"), node("d"));
    let files = [
        ("README.md", "text"),
        ("maintainers/alice/cluster-nodes/a/node.yaml", a.as_str()),
        ("maintainers/bob/cluster-nodes/b/node.yaml", b.as_str()),
        ("maintainers/bob/machines/c/node.yaml", c.as_str()),
        ("elsewhere/bob/cluster-nodes/d/node.yaml", d.as_str()),
        ("maintainers/bob/cluster-nodes/b/notes.txt", "apiVersion: kind: metadata:"),
    ];
    assert_eq!(names(&nodes(), &files), ["a", "b"]);
}

#[test]
fn a_neighbour_whose_name_starts_alike_is_not_below_the_path() {
    let a = node("a");
    let files = [("maintainers-old/x/cluster-nodes/a/node.yaml", a.as_str())];
    assert_eq!(nodes().manifests(&tree(&files)), Err(SourceError::NoPath { path: "maintainers".to_owned() }));
}

#[test]
fn without_recurse_only_the_folder_itself_counts() {
    let (a, b) = (node("a"), node("b"));
    let files = [("deploy/a.yaml", a.as_str()), ("deploy/sub/b.yaml", b.as_str())];
    let flat = Source { path: "deploy/".to_owned(), recurse: false, include: None, exclude: None };
    assert_eq!(names(&flat, &files), ["a"]);
    assert_eq!(names(&Source { recurse: true, ..flat }, &files), ["a", "b"]);
}

#[test]
fn exclude_goes_before_include() {
    let (a, b) = (node("a"), node("b"));
    let files = [("a.yaml", a.as_str()), ("b.yaml", b.as_str())];
    let glob = |text| Some(Glob::new(text).unwrap());
    let source = Source { include: glob("{a,b}.yaml"), exclude: glob("a.*"), ..everything() };
    assert_eq!(names(&source, &files), ["b"]);
}

#[test]
fn documents_lists_and_nothing() {
    let several = format!("---\n{}---\n\n--- \n# only a comment\n---\n{}", node("a"), node("b"));
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: d}}\n";
    let no_list = "apiVersion: v1\nkind: ConfigMapList\nmetadata: {}\nitems: null\n";
    let files = [("1.yaml", several.as_str()), ("2.yml", list), ("3.yaml", no_list), ("4.yaml", "")];
    assert_eq!(names(&everything(), &files), ["a", "b", "c", "d"]);
}

#[test]
fn a_separator_with_a_comment_hides_what_follows_it() {
    let hidden = format!("{}--- # another\n{}", node("a"), node("b"));
    assert_eq!(names(&everything(), &[("1.yaml", hidden.as_str())]), ["a"]);
}

#[test]
fn json_is_one_object() {
    let one = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}"#;
    assert_eq!(names(&everything(), &[("a.json", one)]), ["a"]);
    assert!(problem(&everything(), &[("a.json", &one.repeat(2))]).contains("multiple objects"));
    assert!(problem(&everything(), &[("a.json", "")]).contains("empty"));
    assert!(problem(&everything(), &[("a.json", "[]")]).contains("not an object"));
}

#[test]
fn a_broken_manifest_stops_everything_and_is_named() {
    let good = node("good");
    let broken = "apiVersion: zeta.example/v1\nkind: ClusterNode\nmetadata:\n  name: [\n";
    let files = [("a/good.yaml", good.as_str()), ("b/node.yaml", broken)];
    let said = problem(&everything(), &files);
    assert!(said.starts_with("Failed to unmarshal \"b/node.yaml\": "), "{said}");
}

#[test]
fn what_does_not_look_like_a_manifest_is_left_out_in_silence() {
    // No text `metadata:`: whoever misspells it finds the node neither applied nor complained about.
    let misspelt = "apiVersion: zeta.example/v1\nkind:\nmetdata:\n  name: a\n";
    assert_eq!(
        names(&everything(), &[("values.yaml", "replicas: 3\n"), ("a.yaml", misspelt)]),
        Vec::<String>::new()
    );
    // With it, the same fault is an error.
    let without_kind = "apiVersion: zeta.example/v1\n# kind: was here\nmetadata:\n  name: a\n";
    assert!(problem(&everything(), &[("a.yaml", without_kind)]).contains("Object 'Kind' is missing"));
    // After a good document in the same file, any fault is an error.
    let half = format!("{}---\nreplicas: 3\n", node("a"));
    assert!(problem(&everything(), &[("a.yaml", &half)]).contains("Object 'Kind' is missing"));
}

#[test]
fn yaml_is_read_as_version_1_1() {
    let content = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {gpu: no, mode: 010, mac: 52:54:00:12:34:56, twice: 1, twice: 2}\n";
    let manifests = everything().manifests(&tree(&[("a.yaml", content)])).unwrap();
    let data = &manifests[0].object["data"];
    assert_eq!(data, &json!({"gpu": false, "mode": 8, "mac": "52:54:00:12:34:56", "twice": 2}));
}

#[test]
fn jsonnet_and_too_much_are_errors() {
    assert!(problem(&everything(), &[("a.jsonnet", "{}")]).contains("not evaluated here"));
    let large = Tree::from([("a.yaml".to_owned(), vec![b'#'; 10_000_001])]);
    assert_eq!(everything().manifests(&large), Err(SourceError::TooLarge));
}

#[test]
fn an_alias_bomb_is_an_error_and_not_a_full_memory() {
    let mut bomb =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nl0: &l0 [x, x, x, x, x, x, x, x, x, x]\n"
            .to_owned();
    for level in 1..12 {
        let below = level - 1;
        let aliases = vec![format!("*l{below}"); 10].join(", ");
        bomb = format!("{bomb}l{level}: &l{level} [{aliases}]\n");
    }
    assert!(matches!(
        everything().manifests(&tree(&[("a.yaml", &bomb)])),
        Err(SourceError::Unreadable { .. })
    ));
}

#[test]
fn bytes_that_are_no_text_are_an_error_or_left_out() {
    let looks = [b"apiVersion: v1\nkind: X\nmetadata: \xff".to_vec(), b"\xff\xfe".to_vec()];
    let tree = |bytes: &[u8]| Tree::from([("a.yaml".to_owned(), bytes.to_vec())]);
    assert!(matches!(everything().manifests(&tree(&looks[0])), Err(SourceError::Unreadable { .. })));
    assert_eq!(everything().manifests(&tree(&looks[1])), Ok(vec![]));
}

proptest::proptest! {
    #[test]
    fn no_file_panics(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let tree = |name: &str| Tree::from([(name.to_owned(), content.clone())]);
        let _ = everything().manifests(&tree("a.yaml"));
        let _ = everything().manifests(&tree("a.json"));
    }

    #[test]
    fn no_text_like_yaml_panics(content in "[a-z:\\-\\n \\[\\]{}&*!|>'\"#?,0-9]{0,120}") {
        let _ = everything().manifests(&Tree::from([("a.yaml".to_owned(), content.into_bytes())]));
    }
}
