//! Templates for titles and bodies: minijinja, checked when the settings are read.
//!
//! At load an unknown variable is an error, so that a typo shows before the night in which it
//! matters. When a notification goes out nothing is: a template that stumbles is replaced by our
//! own words, because a message in plain words beats none.

use assay_model::{Finding, Micros, RunResult, Severity, Verdict};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Value, json};

use crate::event::{EVENTS, Level};
use crate::message::Message;
use crate::news::{About, Notification};

/// How much work a template may do: a message takes some hundreds.
const FUEL: u64 = 200_000;

/// A checked template.
#[derive(Clone, Debug)]
pub(crate) struct Template(String);

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateProblem {
    /// Counts from 1, within the template.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Template {
    /// Reads a template and tries it on one piece of news of each kind that it will be used for.
    pub(crate) fn new(source: &str, events: Option<&[String]>) -> Result<Self, TemplateProblem> {
        let problem = |e: &minijinja::Error| TemplateProblem {
            line: e.line().unwrap_or(1),
            message: e
                .detail()
                .map_or_else(|| e.kind().to_string(), |detail| format!("{}: {detail}", e.kind())),
        };
        let environment = environment(UndefinedBehavior::Strict);
        let template = environment.template_from_str(source).map_err(|e| problem(&e))?;
        let known: Vec<String> = EVENTS.iter().map(|kind| kind.name.to_owned()).collect();
        for event in events.unwrap_or(&known) {
            let news = sample(event);
            template.render(facts(&news, &Message::of(&news))).map_err(|e| problem(&e))?;
        }
        Ok(Self(source.to_owned()))
    }

    /// The text for one notification; `None` when the template cannot cope with it.
    pub(crate) fn render(&self, news: &Notification, usual: &Message) -> Option<String> {
        let environment = environment(UndefinedBehavior::Lenient);
        environment.template_from_str(&self.0).ok()?.render(facts(news, usual)).ok()
    }
}

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(FUEL));
    // Plain text; HTML is made from it, escaped as a whole.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
}

/// What templates may use; `docs/guide/notifications.md` lists it.
#[derive(Serialize)]
struct Facts<'a> {
    event: &'a str,
    at: String,
    level: Level,
    run: Option<i64>,
    host: Option<&'a str>,
    link: &'a str,
    title: &'a str,
    body: &'a str,
    profile: Option<&'a str>,
    stage: Option<&'a str>,
    verdict: Option<Verdict>,
    reason: Option<&'a str>,
    result: Option<RunResult>,
    findings: &'a [Finding],
    more_findings: usize,
    codes: Vec<&'a str>,
    next_step: Option<&'a str>,
    payload: &'a Value,
}

fn facts<'a>(news: &'a Notification, usual: &'a Message) -> minijinja::Value {
    minijinja::Value::from(Serde(Facts {
        event: &news.event,
        at: news.at.rfc3339(),
        level: usual.level,
        run: news.run(),
        host: news.host(),
        link: usual.link.as_deref().unwrap_or_default(),
        title: &usual.title,
        body: &usual.body,
        profile: news.about.profile.as_deref(),
        stage: news.about.stage.as_deref(),
        verdict: news.about.verdict,
        reason: news.about.reason.as_deref(),
        result: news.about.result,
        findings: &news.about.findings,
        more_findings: news.about.more_findings,
        codes: news.about.findings.iter().map(|f| f.code.as_str()).collect(),
        next_step: news.about.findings.first().map(|f| f.next_step.as_str()),
        payload: &news.payload,
    }))
}

/// News of a kind, with everything that such news can have.
fn sample(event: &str) -> Notification {
    let finding = Finding::new(
        "DimmMissing",
        Severity::Critical,
        "slot DIMM_B1 is empty; expected 65536 MiB",
        "Reseat the module in DIMM_B1.",
    )
    .part("dimm", Some("DIMM_B1"), Some("M393A8G40AB2"))
    .stage(&"SpecValidate".into());
    let mut payload = json!({ "run": 12, "host": "web-3" });
    let extra = match event {
        "RunStarted" => json!({ "runner": "rack7" }),
        "RunCompleted" => json!({ "result": "fail", "overridden": false }),
        "RunHeld" | "HoldExpiring" => {
            json!({ "failed_stage": "SpecValidate", "hold_until": 1_795_253_400_000_000_i64 })
        }
        "StageFailed" | "UnexpectedData" | "SpecMismatch" => {
            json!({ "stage": "SpecValidate", "verdict": "fail", "message": "2 of 43 fields differ critically",
                "findings": ["slot DIMM_B1 is empty; expected 65536 MiB"] })
        }
        "RunStale" => json!({ "state": "Running", "since": 1_795_253_400_000_000_i64 }),
        "RunReleased" => json!({ "why": "the hold ran out" }),
        "Decided" => json!({ "decision": "waive", "by": "ada", "why": "spare part is on its way" }),
        "BootFailed" => json!({ "message": "it did not ask for its boot file" }),
        "BatchStopped" => {
            json!({ "batch": 3, "what": "vet all hosts (standard)", "asked_by": "ada", "waiting": 4,
                "why": "2 failed: web-2 (run 11), web-3 (run 12)" })
        }
        "MachineSuspect" => json!({ "last_seen": 1_795_253_400_000_000_i64 }),
        _ => json!({}),
    };
    if let (Value::Object(all), Value::Object(extra)) = (&mut payload, extra) {
        all.extend(extra);
    }
    Notification {
        id: "sample".to_owned(),
        event: event.to_owned(),
        at: Micros::seconds(1_795_253_400),
        payload,
        about: About {
            profile: Some("standard".to_owned()),
            stage: Some("SpecValidate".to_owned()),
            verdict: Some(Verdict::Fail),
            reason: Some("2 of 43 fields differ critically".to_owned()),
            result: Some(RunResult::Fail),
            overridden: false,
            muted: Vec::new(),
            left_out: Vec::new(),
            from_phase: None,
            unverified: Vec::new(),
            findings: vec![finding],
            more_findings: 0,
        },
        base_url: Some("https://assay.example.net".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_says_what_it_is_given() {
        let template = Template::new(
            "{{ host }}/{{ run }}: {{ codes|join(' ') }}{% for f in findings %} {{ f.part.location }}{% endfor %}",
            None,
        )
        .expect("valid");
        let news = sample("RunHeld");
        let text = template.render(&news, &Message::of(&news));
        assert_eq!(text.as_deref(), Some("web-3/12: DimmMissing DIMM_B1"));
    }

    #[test]
    fn mistakes_are_found_at_load_with_their_line() {
        let line = |source| Template::new(source, None).expect_err(source).line;
        assert_eq!(line("{{ host"), 1);
        assert_eq!(line("one\ntwo {{ hots }}"), 2);
        assert_eq!(line("one\n\n{% for f in findings %}{{ f.codee }}{% endfor %}"), 3);
        assert_eq!(line("{{ host|shout }}"), 1);
        assert_eq!(line("{% if run %}no end"), 1);
        let endless = "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}";
        assert_eq!(line(endless), 1);
    }

    #[test]
    fn a_fact_of_one_kind_of_news_is_no_fact_of_all() {
        let source = "{{ payload.hold_until }}";
        assert!(Template::new(source, None).is_err(), "RunStarted has none");
        assert!(Template::new(source, Some(&["RunHeld".to_owned()])).is_ok());
    }

    #[test]
    fn a_template_that_stumbles_later_gives_way() {
        let template =
            Template::new("{{ payload.hold_until + 1 }}", Some(&["RunHeld".to_owned()])).expect("valid");
        let mut news = sample("RunHeld");
        news.payload["hold_until"] = Value::String("not a number".to_owned());
        assert_eq!(template.render(&news, &Message::of(&news)), None);
    }
}
