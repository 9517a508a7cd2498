//! An earlier matrix, taken up again: what passed is carried over with its evidence, everything else is run once more.
//!
//! A pass is carried over only where it still speaks for what is asked now: the same image, the same profile, and a signed
//! bundle beside it that says so itself. Whatever is missing costs a run, never a verdict.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use assay_model::matrix::{FORMAT, Matrix, MatrixTry, TryVerdict};
use assay_model::{RunResult, Sha256};
use assay_pipelines::image::profile::Case;
use assay_report::verify_bundle;

use super::case::Held;
use crate::ui;

/// The file in a matrix's folder that is read again.
pub(super) const FILE: &str = "matrix.json";

/// Reads the matrix in a folder, and refuses one of another image.
pub(super) fn read(folder: &Path, image: Sha256) -> Result<Matrix> {
    let path = folder.join(FILE);
    let text = std::fs::read(&path).with_context(|| {
        format!("{}: --rerun-failed takes the --out folder of an earlier matrix", path.display())
    })?;
    let matrix: Matrix = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    ensure!(
        matrix.format == FORMAT,
        "{}: format {}, and this Assay reads {FORMAT}; run the whole matrix anew",
        path.display(),
        matrix.format
    );
    ensure!(
        matrix.sha256 == image,
        "{} is about another image ({}, SHA-256 {}): a pass of that one says nothing about this one. Run the whole \
         matrix anew",
        path.display(),
        assay_model::text::clean(&matrix.image),
        matrix.sha256
    );
    Ok(matrix)
}

/// The earlier tries of each case that are carried over, by the case's name, copied to the new folder.
pub(super) fn carried(
    earlier: &Matrix,
    from: &Path,
    to: &Path,
    cases: &[Held],
    muted: &[String],
) -> BTreeMap<String, Vec<MatrixTry>> {
    let mut carried = BTreeMap::new();
    for (case, held_to) in cases {
        let Some(known) = earlier.cases.iter().find(|known| known.name == case.name) else { continue };
        if known.tries.is_empty() {
            continue;
        }
        if known.held_to != *held_to {
            ui::say(&format!(
                "{}: its profile has changed since; it is run anew, and {} of before are not counted",
                case.name,
                tries_of(known.tries.len())
            ));
            continue;
        }
        let mut tries = Vec::new();
        for one in &known.tries {
            if let Err(problem) = take_over(one, from, to) {
                ui::say(&format!("{}: the evidence of try {} is lost: {problem:#}", case.name, one.number));
                continue;
            }
            // A pass without evidence is none; of a failure the word is enough.
            if one.verdict == TryVerdict::Pass
                && let Err(problem) = still_a_pass(one, &to.join(&one.folder), case, muted)
            {
                ui::say(&format!(
                    "{}: the pass of try {} does not count: {problem:#}",
                    case.name, one.number
                ));
                continue;
            }
            tries.push(MatrixTry { earlier: true, ..one.clone() });
        }
        carried.insert(case.name.clone(), tries);
    }
    carried
}

fn tries_of(count: usize) -> String {
    if count == 1 { "1 try".to_owned() } else { format!("{count} tries") }
}

/// Whether a try's folder has a sealed pass of this case, with no check switched off that is to be on now.
fn still_a_pass(one: &MatrixTry, folder: &Path, case: &Case, muted: &[String]) -> Result<()> {
    let off: Vec<&str> = one.muted.iter().filter(|code| !muted.contains(code)).map(String::as_str).collect();
    ensure!(off.is_empty(), "it was made with checks switched off: {}", off.join(", "));
    let bundle = folder.join("bundle.tar");
    let verified = verify_bundle(&bundle, &[]).with_context(|| bundle.display().to_string())?;
    ensure!(verified.ok, "{} does not verify; see `assay verify`", bundle.display());
    ensure!(verified.result == Some(RunResult::Pass), "its bundle says something else");
    let target = super::case::target_name(case);
    ensure!(verified.target.as_deref() == Some(target.as_str()), "its bundle is about something else");
    Ok(())
}

/// Brings a try's evidence into the new folder; by links where that is possible.
fn take_over(one: &MatrixTry, from: &Path, to: &Path) -> Result<()> {
    // The name comes from a file that anybody may have written.
    let plain = one.folder.strip_prefix("cases/").is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..") && !rest.contains('\\')
    });
    ensure!(plain, "{:?} is no folder of a case", one.folder);
    let (from, to) = (from.join(&one.folder), to.join(&one.folder));
    ensure!(from.join("report.html").is_file(), "{} has no report", from.display());
    if from == to || (to.exists() && from.canonicalize()? == to.canonicalize()?) {
        return Ok(());
    }
    for folder in ["", "artifacts"] {
        let (from, to) = (from.join(folder), to.join(folder));
        std::fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
        let listing = std::fs::read_dir(&from).with_context(|| from.display().to_string())?;
        for file in listing {
            let file = file.with_context(|| from.display().to_string())?;
            if !file.file_type().with_context(|| from.display().to_string())?.is_file() {
                continue;
            }
            let target = to.join(file.file_name());
            // Whatever lies there already is of something else.
            let _ = std::fs::remove_file(&target);
            if std::fs::hard_link(file.path(), &target).is_err() {
                std::fs::copy(file.path(), &target).with_context(|| target.display().to_string())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_pipelines::image::Profile;

    fn tried(folder: &str, verdict: TryVerdict, muted: &[&str]) -> MatrixTry {
        MatrixTry {
            number: 1,
            folder: folder.to_owned(),
            run: String::new(),
            verdict,
            stage: None,
            codes: Vec::new(),
            message: String::new(),
            next_step: None,
            seconds: None,
            started_at: None,
            earlier: false,
            until: None,
            from_phase: None,
            muted: muted.iter().map(|code| (*code).to_owned()).collect(),
            unverified: 0,
        }
    }

    fn case() -> Case {
        let text = "name = \"x\"\n[[phase]]\nname = \"installed\"\nmarker = \"done\"\ntimeout = \"1m\"\n";
        Profile::from_toml(text).expect("a profile").cases().expect("one").remove(0)
    }

    #[test]
    fn a_folder_outside_of_the_matrix_is_not_taken_over() {
        let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for folder in ["/etc", "../x", "cases/../x", "cases//x", "cases/a/./1", "cases/", "cases/a\\b"] {
            let refused = take_over(&tried(folder, TryVerdict::Pass, &[]), from.path(), to.path());
            assert!(refused.expect_err(folder).to_string().contains("is no folder of a case"), "{folder}");
        }
        let good = tried("cases/x/1", TryVerdict::Fail, &[]);
        let gone = take_over(&good, from.path(), to.path()).expect_err("nothing is there");
        assert!(gone.to_string().contains("has no report"), "{gone}");
        std::fs::create_dir_all(from.path().join("cases/x/1/artifacts")).expect("made");
        std::fs::write(from.path().join("cases/x/1/report.html"), "a page").expect("written");
        take_over(&good, from.path(), to.path()).expect("taken over");
        assert_eq!(std::fs::read(to.path().join("cases/x/1/report.html")).expect("there"), b"a page");
    }

    #[test]
    fn a_pass_without_its_bundle_or_with_checks_off_is_run_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let pass = |muted: &[&str], now: &[String]| {
            let one = tried("cases/x/1", TryVerdict::Pass, muted);
            format!("{:#}", still_a_pass(&one, folder.path(), &case(), now).expect_err("no pass"))
        };
        assert!(pass(&[], &[]).contains("bundle.tar"), "there is none");
        assert!(pass(&["IdleShell"], &[]).contains("checks switched off: IdleShell"));
        assert!(pass(&["IdleShell"], &["IdleShell".to_owned()]).contains("bundle.tar"));
        std::fs::write(folder.path().join("bundle.tar"), "no bundle").expect("written");
        assert!(pass(&[], &[]).contains("bundle.tar"), "what is none does not verify");
    }
}
