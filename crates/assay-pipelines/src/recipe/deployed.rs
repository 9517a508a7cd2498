//! What a deployment came to, as checks and findings: the same words in every stage that deploys.

use assay_model::{Coverage, text};
use assay_recipe::settings::Settings;

use super::evidence::{Answered, Deployed, Outcome, ServiceFailure};
use super::told::{Told, code_of, line, quoted};

/// Everything about a deployment that is the same whatever it was for.
pub(super) fn deployed(told: &mut Told, deployed: &Deployed, settings: &Settings) {
    outcome(told, &deployed.outcome);
    if matches!(deployed.outcome, Outcome::Converged { .. }) {
        for service in &deployed.services {
            let seen = match service.tasks.len() {
                0 => "has nothing left to do".to_owned(),
                1 => "runs".to_owned(),
                count => format!("{count} tasks run"),
            };
            told.check(format!("service {}", text::clean(&service.service)), true, "as the files say", seen);
        }
        let total = deployed.services.len() as u64;
        told.coverage.push(Coverage { what: "services".to_owned(), covered: total, total });
    }
    match &deployed.answered {
        Some(said) => answered(told, said, settings),
        None if settings.http.none || !matches!(deployed.outcome, Outcome::Converged { .. }) => {}
        None => told.unverified.push(
            "the app was asked nothing: no traefik label, port or http.port says where it answers (http.none for an app \
             without a web face), or the generic checks are switched off"
                .to_owned(),
        ),
    }
    told.ran(&deployed.ran, "hook or test", "HookFailed");
    if !deployed.remarks.is_empty() {
        told.info(
            "FilesRemark",
            text::clean_to(&deployed.remarks.join("; "), 600),
            "It changes nothing today; an engine that heeds it would do otherwise.",
        );
    }
    if !deployed.substituted.is_empty() {
        told.info(
            "DeployedOtherwise",
            format!("deployed otherwise than written: {}", text::clean_to(&deployed.substituted.join("; "), 600)),
            "It is how this runner tests, not the recipe: its kernel has no IPVS, the recipe has dependencies to be led to, the swarm is \
             shared, or the machine is emulated.",
        );
    }
}

/// How it ended.
pub(super) fn outcome(told: &mut Told, outcome: &Outcome) {
    let expected = "every service as the files say";
    match outcome {
        Outcome::Converged { still_running } => {
            let seen = if still_running.is_empty() {
                "all are".to_owned()
            } else {
                format!("all are; {} is to end some day and still runs", still_running.join(", "))
            };
            told.check("convergence", true, expected, seen);
        }
        Outcome::Invalid { problems } => {
            told.check("files", false, "they come to a stack", text::plural(problems.len(), "problem"));
            for problem in problems {
                told.critical(
                    "StackInvalid",
                    text::clean(problem),
                    "Correct the file and the line that it names.",
                );
            }
        }
        Outcome::Refused { escapes } => {
            told.check("isolation", false, "nothing reaches out of its containers", escapes.join("; "));
            for escape in escapes {
                told.critical(
                    "ReachesOut",
                    text::clean(escape),
                    "Nothing was deployed. A recipe is not trusted with this machine; whoever runs Assay can allow it for this \
                     recipe (--allow).",
                );
            }
        }
        Outcome::NoImages { images } => {
            told.check("images", false, "they can be got", format!("{} cannot", images.len()));
            for image in images {
                told.critical(
                    "MissingImage",
                    text::clean(image),
                    "Look for a misspelt tag, or one that was taken away; for a private one the runner's cache needs credentials.",
                );
            }
        }
        Outcome::DependencyFailed { dependency, message } => {
            let dependency = text::clean(dependency);
            told.check(format!("dependency {dependency}"), false, "it is up", "it is not");
            told.critical(
                "DependencyFailed",
                format!("the dependency {dependency} did not come up: {}", text::clean_to(message, 400)),
                "Nothing of the recipe itself was tried. Look at the dependency first.",
            );
        }
        Outcome::HookFailed { hook } => {
            told.check("hooks", false, "exit code 0", format!("{} failed", text::clean(hook)));
        }
        Outcome::Rejected { message } => {
            told.check("deployment", false, "Docker takes it", "Docker does not");
            told.critical(
                "DeployRejected",
                text::clean(message),
                "Docker refused it, so it would refuse it everywhere.",
            );
        }
        Outcome::Failed { failures } => {
            for failure in failures {
                failed(told, failure);
            }
        }
        Outcome::TimedOut { waiting, limit_s } => {
            told.check("convergence", false, expected, format!("not within {limit_s:.0} s"));
            for waiting in waiting {
                told.critical(
                    super::NOT_CONVERGED,
                    format!("after {limit_s:.0} s: {}", text::clean(waiting)),
                    "It was still on its way. If it needs longer, raise deploy.timeout; if not, its log says what it waits for.",
                );
            }
        }
    }
}

fn failed(told: &mut Told, failure: &ServiceFailure) {
    let service = text::clean(&failure.service);
    let message = format!("{service}: {}", text::clean_to(&failure.message, 400));
    told.check(format!("service {service}"), false, "runs and stays", message.clone());
    let next = match failure.class.as_str() {
        "missing_image" => "Look for a misspelt tag, or one that was taken away.",
        "bad_mount" => "Look at the service's volumes and binds: what is to be mounted is not there.",
        "unschedulable" => "Look at its placement constraints and resources: no node would have it.",
        "completing_loop" => {
            "Give a service that is to end `restart_policy: condition: none` or `on-failure`."
        }
        "unhealthy" => {
            "Run its health check by hand in the container; its log may say why it does not answer."
        }
        "update_paused" => "The new version's tasks failed; their log says why.",
        _ => "Its log says why it ended; the attempts and their output are with this stage.",
    };
    let words = if message.contains("last words") { String::new() } else { quoted(&failure.last_words) };
    told.critical(&code_of(&failure.class), format!("{message}{words}"), next);
}

/// Whether the app answered as it should.
pub(super) fn answered(told: &mut Told, said: &Answered, settings: &Settings) {
    let wanted: Vec<String> = settings.http.status.iter().map(ToString::to_string).collect();
    let wanted = wanted.join(" or ");
    let place = text::clean(&said.url);
    let Some(status) = said.status else {
        let why = line(said.problem.as_deref().unwrap_or("no answer"));
        told.check(format!("answer of {place}"), false, wanted, why.clone());
        told.critical(
            "NoAnswer",
            format!("{place} did not answer within {:.0} s: {why}", said.after_s),
            "Every service runs and nobody answers: look at the port that the app listens on (http.port, the traefik label), and \
             whether it listens on all addresses.",
        );
        return;
    };
    let ok = settings.http.status.contains(&status);
    told.check(
        format!("answer of {place}"),
        ok,
        wanted.clone(),
        format!("{status} after {:.1} s", said.after_s),
    );
    if !ok {
        told.critical(
            "WrongStatus",
            format!(
                "{place} answered {status} and not {wanted}, {:.0} s after every service ran",
                said.after_s
            ),
            "Look at the app's log. If this is what it answers when it is well, name it in http.status.",
        );
        return;
    }
    if let Some(wanted) = &settings.http.content_type {
        let seen = said.content_type.clone().unwrap_or_else(|| "none".to_owned());
        let bare = seen.split(';').next().unwrap_or_default().trim();
        let ok = bare.eq_ignore_ascii_case(wanted.trim());
        told.check(format!("content type of {place}"), ok, wanted, text::clean(&seen));
        if !ok {
            told.critical(
                "WrongContentType",
                format!("{place} came as {} and not as {wanted}", text::clean(&seen)),
                "Something else answers than the app: a default page, a stale folder, an error page.",
            );
        }
    }
    if let Some(wanted) = &settings.http.contains {
        let ok = said.contained == Some(true);
        told.check(
            format!("content of {place}"),
            ok,
            format!("contains `{}`", text::clean(wanted)),
            text::clean_to(&said.body, 120),
        );
        if !ok {
            told.critical(
                "WrongContent",
                format!("{place} answered {status} without `{}`: {}", text::clean(wanted), text::clean_to(&said.body, 120)),
                "Something else answers than the app: a default page, a stale folder, an error page with status 200.",
            );
        }
    }
}
