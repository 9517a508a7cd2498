//! The table of rules, the proof of each, and what is not read at all.

use std::path::Path;

use assay_recipe::{
    Recipe,
    lint::{RULES, Verdict, lint_files},
};
use insta::assert_snapshot;

fn open(name: &str) -> Recipe {
    Recipe::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes").join(name)).unwrap()
}

/// No rule without its proof: each has gone red on one of the recipes here, and green on another.
#[test]
fn every_rule_goes_red_and_green() {
    let of = |verdict: Verdict, names: &[&str]| -> Vec<String> {
        let mut rules: Vec<String> = (names.iter())
            .flat_map(|name| {
                let report = lint_files(&open(name));
                report.with(verdict).map(|result| result.rule.clone()).collect::<Vec<_>>()
            })
            .collect();
        rules.sort();
        rules.dedup();
        rules
    };
    // R006 and R013 ask the network; R014 and A001 the checkout, and have tests with a real one.
    let mut elsewhere = ["R006", "R013", "R014", "A001"].map(str::to_owned).to_vec();
    elsewhere.sort();
    let but = |found: &[String]| -> Vec<String> {
        let mut missing: Vec<String> =
            RULES.iter().map(|rule| rule.id.to_owned()).filter(|id| !found.contains(id)).collect();
        missing.sort();
        missing
    };
    let all = ["bonfire", "broken", "careless", "ghost", "plausible"];
    assert_eq!(but(&of(Verdict::Fail, &all)), elsewhere);
    assert_eq!(but(&of(Verdict::Pass, &["custom-html"])), elsewhere);
}

#[test]
fn a_folder_without_compose_files_is_no_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let error = Recipe::open(folder.path()).unwrap_err();
    assert!(
        error.to_string().ends_with("has no `compose.yml`, so it is no recipe; name the folder that has one"),
        "{error}"
    );
    assert!(Recipe::open(&folder.path().join("gone")).is_err());
}

#[test]
fn files_outside_of_a_recipe_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("recipe");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(folder.path().join("secret"), "s").unwrap();
    std::fs::write(inside.join("compose.yml"), "services: {}\n").unwrap();
    std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
    let recipe = Recipe::open(&inside).unwrap();
    assert_eq!(recipe.content("../secret").unwrap_err(), "it is outside of the recipe");
    assert_eq!(recipe.content("/etc/hostname").unwrap_err(), "it is outside of the recipe");
    assert_eq!(recipe.content("link").unwrap_err(), "it is a link that leads out of the recipe");
    assert_eq!(recipe.content("gone").unwrap_err(), "there is no such file");
    assert_eq!(recipe.content("./compose.yml").unwrap(), b"services: {}\n");
    assert_eq!(recipe.content(".").unwrap_err(), "it is no file");

    std::os::unix::fs::symlink("../secret", inside.join(".env.sample")).unwrap();
    let error = Recipe::open(&inside).unwrap_err().to_string();
    assert!(error.ends_with(".env.sample is not read: it is a link that leads out of the recipe"), "{error}");
    std::fs::remove_file(inside.join(".env.sample")).unwrap();
    std::fs::write(inside.join("abra.sh"), b"export A=\xff\n").unwrap();
    let error = Recipe::open(&inside).unwrap_err().to_string();
    assert!(error.ends_with("abra.sh is not read: it is not UTF-8; save it as that"), "{error}");
}

#[test]
fn every_rule_is_in_the_table() {
    let table: Vec<String> = RULES
        .iter()
        .map(|rule| format!("{} {:?} {}: {}", rule.id, rule.severity, rule.title, rule.next_step))
        .collect();
    assert_snapshot!(table.join("\n"), @r#"
    R001 Warning compose files have the expected version: write `version: "3.8"` in every compose file
    R002 Warning every service has a healthcheck: add a `healthcheck` to the service
    R003 Warning every image has a tag: name the tag that was tested
    R004 Warning no image has an unstable tag: name a release instead of `latest`
    R005 Warning tags look like versions: use a tag such as `1.2.3` or `1.2-alpine`
    R006 Warning a version is published in the catalogue: publish a version of the recipe to the catalogue
    R007 Warning the README's metadata is filled in: fill in every fact between the metadata marks of README.md
    R008 Error `.env.sample` is provided: write an `.env.sample` with every setting that the recipe reads
    R009 Error one service is called `app`: call the main service `app`
    R010 Error traefik's routing is on: add the deploy label `traefik.enable=true` to the service that people open
    R011 Error every service has an image: name an image in the service
    R012 Error versions of configs are in abra.sh: export the config's version in `abra.sh`: `export X_VERSION=v1`
    R013 Warning the recipe has its repository: upload the recipe
    R014 Error releases are annotated tags: delete the lightweight tag and make it anew with `git tag -a`
    R015 Warning names of secrets are short: shorten the name to 12 characters or fewer
    A001 Error a config that changed has a new version: raise the config's version in `abra.sh`; the engine refuses to change a config, so every upgrade would fail
    A002 Error what services name is declared: declare it at the top level of the same files, or correct the name
    A003 Warning what is declared is used: remove the declaration, or use it in a service
    A004 Error names fit for the longest stack name: shorten the key, so that 45 characters of stack name fit before it
    A005 Error no port is published twice: give one of them another port, or take them apart into overlays that exclude each other
    A006 Error one service switches backups on: keep `backupbot.backup` on the main service alone
    A007 Error backup labels name volumes of the stack: correct the volume's name in the label, or remove the label
    A008 Warning backup labels mean something: correct the label, or add `backupbot.backup=true` to the main service
    A009 Warning healthchecks check something: give the healthcheck a `test` that fails when the app does
    A010 Error every file and combination can be read: mend what is said at the place
    A011 Error files of configs and secrets are there: add the file to the recipe, or correct its name
    A012 Warning what is written has an effect on Swarm: remove it, or do what is said at the place
    A013 Warning variables are in `.env.sample`: add the variable to `.env.sample`, commented out where it is optional, or give it a default
    A014 Error durations have no variables: write the duration itself: abra checks it before it fills in variables
    A015 Error secrets have a version in `.env.sample`: add `SECRET_NAME_VERSION=v1` to `.env.sample`, and name the secret `${STACK_NAME}_name_${SECRET_NAME_VERSION}`
    A016 Error what is said of secrets can be read: use `length=`, `charset=` and `generate=` as abra knows them
    A017 Warning the app says its version: add the deploy label `coop-cloud.${STACK_NAME}.version=1.0.0+upstream` to `app`
    A018 Error what `deploy` says fits together: remove `replicas`, or the mode
    "#);
    let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
}
