//! The stage `Backup`: what the labels say, done with real restic, over stores into which something was put that nobody else
//! knows. That a backup was taken proves little; `Restore` proves the rest.

use assay_model::recipe::Rung;
use assay_model::{Coverage, Judgement, StagePlan, bytes, text};

use super::evidence::{BackupTaken, LabelHook, Trouble, WitnessSeen, WitnessState, Witnesses};
use super::told::{Told, code_of, line, quoted};
use super::{RecipeInput, RecipeStage, by_runner, judged};

/// A backup.
pub(super) struct Backup;

impl RecipeStage for Backup {
    fn plan(&self) -> StagePlan {
        by_runner("Backup", false)
    }

    fn rung(&self) -> Option<Rung> {
        Some(Rung::Backup)
    }

    fn is_long(&self) -> bool {
        true
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &BackupTaken| {
            let mut told = Told::default();
            hooks(&mut told, &seen.hooks);
            troubles(&mut told, &seen.troubles);
            let whole = seen.troubles.is_empty();
            let words = format!("{}, {}", text::plural(seen.files as usize, "file"), bytes(seen.bytes));
            told.check("backup", whole, "whole", if whole { words.clone() } else { "not whole".to_owned() });
            for dump in &seen.dumps {
                told.check("dump", whole, "whole", text::clean(dump));
            }
            if seen.captures > 1 {
                told.warning(
                    "BackupTakenAgain",
                    format!("it was taken {} times until it was whole", seen.captures),
                    "Nobody takes it again in production: find out why the first one was not.",
                );
            }
            not_witnessed(&mut told, &seen.witnesses);
            for left in &seen.left_out {
                told.unverified.push(format!(
                    "{} is in no backup: {}",
                    text::clean(&left.what),
                    text::clean(&left.why)
                ));
            }
            told.ran(&seen.ran, "hook or test", "HookFailed");
            let (covered, all) =
                (seen.covered.len() as u64, (seen.covered.len() + seen.left_out.len()) as u64);
            told.coverage.push(Coverage { what: "stores in the backup".to_owned(), covered, total: all });
            told.judgement(|| format!("{words} of {}", seen.covered.join(", ")))
        })
    }
}

/// The hooks of the labels, each a check.
pub(super) fn hooks(told: &mut Told, hooks: &[LabelHook]) {
    for hook in hooks {
        let name = format!("{} hook of {}", text::clean(&hook.moment), text::clean(&hook.service));
        let seen = match hook.exit_code {
            Some(code) => format!("exit code {code} after {:.1} s", hook.seconds),
            None => line(&hook.last_words),
        };
        told.check(
            name,
            hook.exit_code == Some(0),
            "exit code 0",
            format!("{seen}{}", quoted(&hook.last_words)),
        );
    }
}

/// What went wrong, each a finding.
pub(super) fn troubles(told: &mut Told, troubles: &[Trouble]) {
    for trouble in troubles {
        let next = match trouble.class.as_str() {
            "backup_hook_failed" | "restore_hook_failed" => {
                "Run the label's command by hand in the container of its service; what it said is in the finding."
            }
            "dump_empty" | "dump_truncated" => {
                "A backup tool takes such a file without a word. Have the hook fail when its dump does: set -e, set -o pipefail."
            }
            "backup_covers_nothing" => "Look at the names of volumes and paths in the backup labels.",
            "restore_not_fresh" => {
                "That is no fault of the recipe's backup: nothing can be proven with a store that was not empty."
            }
            _ => "Look at the stage's log.",
        };
        told.critical(&code_of(&trouble.class), text::clean_to(&trouble.message, 500), next);
    }
}

/// What became of witnesses, each a check; a lost one is a finding with this code.
pub(super) fn compared(told: &mut Told, seen: &[WitnessSeen], through: &str, code: &str) {
    for witness in seen {
        let what = text::clean(&witness.what);
        let detail = text::clean_to(&witness.detail, 200);
        let (ok, words) = match witness.state {
            WitnessState::Same => (true, "as it was".to_owned()),
            WitnessState::Missing => (false, "gone".to_owned()),
            WitnessState::Altered => (false, format!("changed: {detail}")),
            WitnessState::Unknown => {
                told.unverified.push(format!("witness in {what}: {detail}"));
                continue;
            }
        };
        told.check(format!("witness in {what}"), ok, "as it was", words.clone());
        if !ok {
            told.critical(
                code,
                format!("what was put into {what} before {through} is {words} after it"),
                "What the app had stored there went the same way.",
            );
        }
    }
    let (same, all) = (seen.iter().filter(|seen| seen.state == WitnessState::Same).count(), seen.len());
    if all > 0 {
        told.coverage.push(Coverage {
            what: "witnesses".to_owned(),
            covered: same as u64,
            total: all as u64,
        });
    }
}

/// Stores that should have had a witness and have none.
pub(super) fn not_witnessed(told: &mut Told, witnesses: &Witnesses) {
    for not in witnesses.not_planted.iter().filter(|not| not.expected) {
        told.unverified.push(format!("no witness in {}: {}", text::clean(&not.what), text::clean(&not.why)));
    }
}
