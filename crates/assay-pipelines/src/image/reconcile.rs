//! The stage `Reconcile`: what a cluster makes of the merged registration, and of its removal.
//!
//! A registration is in the tree; whether the machine's object is in the cluster, with all of its fields, is another
//! question. A definition that does not know a field drops it, and every status stays green.

use assay_model::{
    Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, text,
};
use assay_reconcile::{Code, Expectation, Expected, ObjectKey, Observation, Operation, Rules, compare};

use super::evidence::{ReconcilePass, Reconciled};
use super::profile::{InstallExpect, JoinExpect, Profile, ReconcileSpec, When};
use super::{ImageInput, ImageSpec, ImageStage, judged, power};

/// What a cluster makes of it.
pub(crate) struct Reconcile;

impl ImageStage for Reconcile {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Reconcile"), owner: Owner::Agent, required: false, timeout_s: 120 }
    }

    fn asked_for(&self, spec: &ImageSpec) -> Result<(), &'static str> {
        if spec.profile.install.expect == InstallExpect::Refused {
            return Err("the installation is to be refused");
        }
        if spec.profile.join.as_ref().is_some_and(|join| join.expect == JoinExpect::Refused) {
            return Err("the registration is to be refused, so there is nothing to apply");
        }
        match &spec.profile.reconcile {
            None => Err("the profile names no cluster that applies registrations ([reconcile])"),
            Some(reconcile) if reconcile.when == When::Main && !spec.main => Err(
                "the profile asks for it on the main branch only (`when = \"main\"`, `assay image test --main`)",
            ),
            Some(_) => Ok(()),
        }
    }

    fn required(&self, profile: &Profile) -> bool {
        profile.reconcile.as_ref().is_some_and(|reconcile| reconcile.required)
    }

    fn limit_s(&self, profile: &Profile) -> u64 {
        let within = profile.reconcile.as_ref().map_or(0, |reconcile| reconcile.within.0.as_secs());
        u64::from(self.plan().timeout_s) + 2 * within
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        power::refused_before(input)
            .unwrap_or_else(|| judged(self, input, |evidence: &Reconciled| judge(input, evidence)))
    }
}

/// Which files of the tree are registrations, as a glob: their place, with any operator and any host.
pub(crate) fn pattern(path: &str) -> String {
    path.replace("{operator}", "*").replace("{host}", "*")
}

/// Which fields do not count.
pub(crate) fn rules(spec: &ReconcileSpec) -> Rules {
    spec.ignore.iter().fold(Rules::default(), |rules, pointer| rules.ignoring(pointer))
}

#[derive(Default)]
struct Told {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
    compared: u64,
    expected: u64,
}

fn judge(input: &ImageInput<'_>, evidence: &Reconciled) -> Judgement {
    let (Some(spec), Some(join)) = (&input.profile().reconcile, &input.profile().join) else {
        return Judgement::error("the profile has no [reconcile] and [join]");
    };
    let mut told = Told::default();
    if let Some(absent) = &evidence.absent {
        let why = format!("whether a cluster takes the registration: {}", text::clean_to(absent, 400));
        told.unverified.push(why.clone());
        return Judgement::from_evidence(told.checks, told.findings, Vec::new(), told.unverified, why);
    }
    let pattern = pattern(&join.path);
    for (number, pass) in evidence.passes.iter().enumerate() {
        look_at(&mut told, evidence, pass, number == 0, &pattern, &rules(spec));
    }
    let missing = [
        "whether the registration is applied",
        "whether the machine's object goes away with its registration",
    ];
    told.unverified
        .extend(missing.iter().skip(evidence.passes.len()).map(|what| format!("{what}: it was not seen")));
    let message = told.findings.first().map_or_else(
        || format!("{}, by {}", done(evidence), text::clean(&evidence.server)),
        |finding| finding.message.clone(),
    );
    let coverage = vec![Coverage {
        what: "registered objects compared field by field".to_owned(),
        covered: told.compared,
        total: told.expected.max(1),
    }];
    Judgement::from_evidence(told.checks, told.findings, coverage, told.unverified, message)
}

fn done(evidence: &Reconciled) -> String {
    let host = text::clean(&evidence.host);
    match evidence.passes.len() {
        0 => "nothing was applied".to_owned(),
        1 => format!("{host} was applied"),
        _ => format!("{host} was applied, and taken out again"),
    }
}

/// One commit: all of what the tree says is there, nothing else, and it stays so.
fn look_at(
    told: &mut Told,
    evidence: &Reconciled,
    pass: &ReconcilePass,
    with_machine: bool,
    pattern: &str,
    rules: &Rules,
) {
    let when = if with_machine { "after the merge" } else { "after it was taken out again" };
    let tree =
        pass.files.iter().map(|(path, content)| (path.clone(), content.clone().into_bytes())).collect();
    let expected = match Expected::render(&tree, pattern, &evidence.namespace) {
        Ok(expected) => expected,
        Err(problem) => {
            find(told, when, Code::ComparisonError, &problem.to_string(), pass);
            return;
        }
    };
    let named = |objects: &[serde_json::Value]| {
        objects.iter().any(|object| ObjectKey::of(object).name == evidence.host)
    };
    if with_machine && !named(&expected.objects) {
        let none = format!("no registration of {} is in the tree", evidence.host);
        find(told, when, Code::ObjectMissing, &none, pass);
        return;
    }
    let observations: Vec<Observation> = pass
        .looks
        .iter()
        .map(|look| Observation {
            application: look.application.clone(),
            differences: compare(&expected, &look.objects, rules),
        })
        .collect();
    if let (Some(last), Some(seen)) = (pass.looks.last(), observations.last()) {
        let gone = seen.differences.iter().filter(|one| one.code == Code::ObjectMissing).count();
        told.expected += expected.objects.len() as u64;
        told.compared += expected.objects.len().saturating_sub(gone) as u64;
        let there = named(&last.objects);
        let words = |there: bool| if there { "there" } else { "not there" };
        told.check(
            &format!("{} in the cluster, {when}", evidence.host),
            there == with_machine,
            words(with_machine),
            words(there),
        );
    }
    let expectation = Expectation { revision: pass.revision.clone(), operation: Operation::OfRevision };
    let verdict = assay_reconcile::judge(&expectation, &observations);
    told.check(
        &format!("the tree and the cluster, {when}"),
        verdict.ok,
        "the same, twice",
        if verdict.ok { "the same, twice" } else { "not the same" },
    );
    for reason in &verdict.reasons {
        find(told, when, reason.code, &reason.detail, pass);
    }
}

fn find(told: &mut Told, when: &str, code: Code, detail: &str, pass: &ReconcilePass) {
    let next = match code {
        Code::RevisionWrong => {
            "Another commit was applied than the one that was merged; does the Application follow this branch?"
        }
        Code::OutOfSync => {
            "Look at the Application's resources: which of them does the cluster have otherwise, and who changes it?"
        }
        Code::NotHealthy => "Look at the objects' own conditions in the cluster.",
        Code::OperationFailed => {
            "Look at the operation's message. A definition may be missing, or the last registration may not be pruned \
             without `allowEmpty`."
        }
        Code::ObjectMissing => {
            "Compare the Application's path, include and exclude with where registrations are."
        }
        Code::ObjectExtra => "Does the Application prune? What made this object, if no file did?",
        Code::FieldPruned => {
            "The definition does not know the field, so the server dropped it without an error: name it in the schema, or \
             say `x-kubernetes-preserve-unknown-fields`."
        }
        Code::FieldDifferent => {
            "Somebody else writes this field, or it is read as something else than was meant: quote it in the registration."
        }
        Code::NotStable => "It is changed back and forth, or takes longer; look at who writes it.",
        Code::ComparisonError => {
            "A manifest cannot be read, and Argo CD then applies nothing of the commit; correct it."
        }
    };
    let dropped = if code == Code::FieldPruned && !pass.dropped.is_empty() {
        " (the server says so itself, in a dry run)"
    } else {
        ""
    };
    let message = text::clean_to(&format!("{when}: {detail}{dropped}"), 400);
    told.findings.push(Finding::new(&format!("{code:?}"), Severity::Critical, message, next));
}

impl Told {
    fn check(&mut self, name: &str, ok: bool, expected: &str, seen: &str) {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        let name = text::clean_to(name, 200);
        self.checks.push(Check { name, verdict, expected: expected.to_owned(), seen: seen.to_owned() });
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
