//! `cargo xtask schemas`: writes `schemas/` from the types, so that what others validate against is what we read
//! and write. `--check` (part of `cargo xtask test`) fails when the tree and the types disagree: a change to a
//! format is then seen in review, never by accident.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use assay_model::EventBody;
use assay_model::digest::Digest;
use assay_model::host::inventory::Inventory;
use assay_model::host::spec::HostSpec;
use assay_model::matrix::Matrix;
use assay_model::power_cuts::PowerCuts;
use assay_model::report::Report;
use assay_pipelines::image::Profile;
use assay_pipelines::recipe::over_time::Results;
use assay_pipelines::recipe::over_time::ab::Comparison;
use assay_pipelines::recipe::over_time::sweep::{Baseline, Reconciliation};
use assay_recipe::customise::{Context as RecipeContext, Manifest};
use assay_recipe::lint::LintReport;
use assay_recipe::proposals::Proposals;
use assay_recipe::settings::schema::settings_schema;
use clap::Args;
use schemars::{Schema, schema_for};

use crate::place;

#[derive(Args)]
pub(crate) struct Schemas {
    /// Write nothing; fail when a file differs from what would be written.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Schemas) -> Result<()> {
    let folder = place::repository().join("schemas");
    let stale = stale(&folder, &all())?;
    if options.check && !stale.is_empty() {
        bail!("{} out of date; run `cargo xtask schemas`, review the change and commit it", stale.join(", "));
    }
    for (name, text) in all() {
        if stale.contains(&name) {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("schemas: wrote {}", path.display());
        }
    }
    if stale.is_empty() {
        eprintln!("schemas: {} files up to date", all().len());
    }
    Ok(())
}

/// Every schema with its file name.
fn all() -> Vec<(&'static str, String)> {
    vec![
        ("inventory.schema.json", text(&schema_for!(Inventory))),
        ("spec.schema.json", text(&schema_for!(HostSpec))),
        ("image-profile.schema.json", text(&schema_for!(Profile))),
        ("power-cuts.schema.json", text(&schema_for!(PowerCuts))),
        ("report.schema.json", text(&schema_for!(Report))),
        ("recipe-lint.schema.json", text(&schema_for!(LintReport))),
        // Made from the list of keys, which the loader checks by, too.
        ("recipe-settings.schema.json", format!("{:#}\n", settings_schema())),
        ("recipe-context.schema.json", text(&schema_for!(RecipeContext))),
        ("recipe-manifest.schema.json", text(&schema_for!(Manifest))),
        ("recipe-proposals.schema.json", text(&schema_for!(Proposals))),
        ("recipe-results.schema.json", text(&schema_for!(Results))),
        ("recipe-ab.schema.json", text(&schema_for!(Comparison))),
        ("recipe-sweep.schema.json", text(&schema_for!(Reconciliation))),
        ("recipe-sweep-baseline.schema.json", text(&schema_for!(Baseline))),
        ("digest.schema.json", text(&schema_for!(Digest))),
        ("matrix.schema.json", text(&schema_for!(Matrix))),
        ("event.schema.json", text(&schema_for!(EventBody))),
    ]
}

fn text(schema: &Schema) -> String {
    // The alternate form is the pretty one. A JSON value always prints.
    format!("{:#}\n", schema.as_value())
}

/// The names whose files differ. A file that nothing writes any more counts, too: somebody validates against it.
fn stale(folder: &Path, wanted: &[(&'static str, String)]) -> Result<Vec<&'static str>> {
    let mut stale = Vec::new();
    for (name, text) in wanted {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(found) if found == *text => {}
            Ok(_) => stale.push(*name),
            Err(e) if e.kind() == ErrorKind::NotFound => stale.push(*name),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name();
        if !wanted.iter().any(|(wanted, _)| name == *wanted) {
            bail!(
                "{} belongs to no type; remove it or add it to xtask/src/schemas.rs",
                folder.join(name).display()
            );
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use assay_recipe::settings::{LoadedSettings, Settings};
    use serde_json::{Value, json};

    use super::*;

    fn validator(name: &str) -> jsonschema::Validator {
        let text = all().into_iter().find(|(found, _)| *found == name).expect("there is one").1;
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        jsonschema::validator_for(&schema).expect("a valid schema")
    }

    #[test]
    fn a_changed_a_missing_and_a_forgotten_file_are_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = [("a.schema.json", "1\n".to_owned()), ("b.schema.json", "2\n".to_owned())];
        assert_eq!(stale(folder.path(), &wanted).expect("read"), ["a.schema.json", "b.schema.json"]);
        for (name, text) in &wanted {
            fs::write(folder.path().join(name), text).expect("written");
        }
        assert!(stale(folder.path(), &wanted).expect("read").is_empty());
        fs::write(folder.path().join("a.schema.json"), "3\n").expect("written");
        assert_eq!(stale(folder.path(), &wanted).expect("read"), ["a.schema.json"]);
        fs::write(folder.path().join("old.schema.json"), "").expect("written");
        let problem = stale(folder.path(), &wanted).expect_err("nothing writes it").to_string();
        assert!(problem.contains("old.schema.json"), "{problem}");
    }

    #[test]
    fn every_schema_is_one_and_has_a_title() {
        for (name, text) in all() {
            validator(name);
            let schema: Value = serde_json::from_str(&text).expect("JSON");
            assert!(schema["title"].is_string(), "{name}");
        }
    }

    #[test]
    fn the_example_specs_fit_the_schema_and_a_misspelt_key_does_not() {
        let validator = validator("spec.schema.json");
        let mut seen = 0;
        for entry in fs::read_dir(place::repository().join("examples/specs")).expect("examples") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("read");
            let mut spec: Value = serde_saphyr::from_str(&text).expect("YAML");
            let problems: Vec<String> =
                validator.iter_errors(&spec).map(|e| format!("{e} at {}", e.instance_path())).collect();
            assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
            spec["memorry"] = json!({});
            assert!(!validator.is_valid(&spec), "{}: an unknown key must not pass", path.display());
            seen += 1;
        }
        assert!(seen > 0, "there are examples");
    }
    #[test]
    fn what_hooks_are_told_fits_its_schema() {
        let validator = validator("recipe-context.schema.json");
        let mut context = json!({
            "format": 1,
            "recipe": { "name": "ghost", "version": null, "commit": null },
            "domain": "ghost.test",
            "base_url": null,
            "stack": "ghost_test",
            "op": { "name": "backup", "state": "done", "facts": { "snapshot": "abc" } },
            "meta": Settings::default(),
            "deps": { "sso": { "client_id": "app" } },
            "paths": { "work": "/work", "ca_file": null },
        });
        serde_json::from_value::<RecipeContext>(context.clone()).expect("a context");
        let problems: Vec<String> = validator.iter_errors(&context).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{problems:#?}");
        context["op"]["state"] = json!("failed");
        assert!(!validator.is_valid(&context));
    }

    #[test]
    fn settings_that_the_loader_takes_fit_the_schema_and_what_it_refuses_does_not() {
        let validator = validator("recipe-settings.schema.json");
        let fits = |text: &str| {
            let value: toml::Table = toml::from_str(text).expect("TOML");
            validator.is_valid(&serde_json::to_value(value).expect("JSON"))
        };
        for text in [
            "",
            "[deploy]\ntimeout = \"1h 30m\"\nenv = { A = \"\" }\n[http]\ntimeout = 90\nstatus = [200]\n",
            "[[databases]]\nkind = \"sqlite\"\nservice = \"app\"\npath = \"/data/app.db\"\n",
            "[expect.not_applicable]\nupgrade = \"one release so far\"\n[upgrade]\nfrom = [\"1.0.0+2\"]\n",
        ] {
            assert!(fits(text), "{text}");
            LoadedSettings::read(text).expect("the loader takes it");
        }
        for text in [
            "[http]\ntiemout = 5\n",
            "[http]\nstatus = []\n",
            "[http]\npath = \"health\"\n",
            "[deploy]\ntimeout = \"soon\"\n",
            "[deploy]\nenv = { \"A B\" = \"x\" }\n",
            "[backup]\nrecaptures = 4\n",
            "[[databases]]\nservice = \"db\"\n",
            "[expect.not_applicable]\nbackups = \"x\"\n",
        ] {
            assert!(!fits(text), "{text}");
            LoadedSettings::read(text).expect_err("the loader refuses it");
        }
    }
}
