//! `/hosts`: registering a machine, looking at it, vetting it, letting it go.

use askama::Template;
use assay_api::operator::{Host, NewHost, Vet};
use assay_model::host::order::Profile;
use assay_model::host::spec::HostSpec;
use assay_model::{Mac, RunState};
use assay_netboot::power::{place_of, typed};
use assay_store::RunFilter;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::format::sentence;
use super::runs::{self, RunLine};
use super::shell::{PageError, Shell, Signed, page as finished, page_with, see_other};
use crate::api;
use crate::error::ApiError;
use crate::state::App;

/// Runs shown with a host.
const HISTORY: u32 = 20;
/// The power methods, in words.
const METHODS: [(&str, &str); 5] = [
    ("manual", "by hand"),
    ("ipmi", "IPMI"),
    ("redfish", "Redfish"),
    ("wol", "Wake-on-LAN"),
    ("lab", "lab machine"),
];

#[derive(Template)]
#[template(path = "host.html")]
struct HostPage {
    shell: Shell,
    name: String,
    macs: Vec<String>,
    power: String,
    spec: Option<String>,
    runs: Vec<RunLine>,
    /// The run that has the machine now.
    open_run: Option<i64>,
    profiles: [(&'static str, &'static str); 3],
}

#[derive(Template)]
#[template(path = "host_form.html")]
struct FormPage {
    shell: Shell,
    /// The host that is changed; none for a new one.
    changing: Option<String>,
    name: String,
    macs: String,
    spec: String,
    methods: Vec<(String, String, bool)>,
    power: PowerFields,
    problem: Option<Problem>,
}

/// How the machine is switched, beside the method, as it stands in the form.
#[derive(Clone, Default)]
struct PowerFields {
    /// What is switched: an address, a URL, a MAC address or a lab machine.
    place: String,
    /// The name of the password on the runner.
    credential: String,
    /// `KEY=VALUE`, one a line.
    more: String,
}

/// What is wrong with a form, and with which field.
struct Problem {
    field: &'static str,
    message: String,
    hint: Option<String>,
    /// Line and column in the spec.
    place: Option<(u64, u64)>,
}

impl FormPage {
    fn is_wrong(&self, field: &str) -> bool {
        self.problem.as_ref().is_some_and(|p| p.field == field)
    }
}

#[derive(Deserialize)]
pub(super) struct Prefill {
    mac: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct HostForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    macs: String,
    #[serde(default)]
    spec: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    place: String,
    #[serde(default)]
    credential: String,
    #[serde(default)]
    more: String,
}

#[derive(Deserialize)]
pub(super) struct VetForm {
    #[serde(default)]
    profile: String,
    /// A ticked box sends something, an empty one nothing.
    no_hold: Option<String>,
}

pub(super) async fn form(
    Signed(operator): Signed,
    Query(prefill): Query<Prefill>,
) -> Result<Response, PageError> {
    let form = HostForm {
        name: String::new(),
        macs: prefill.mac.unwrap_or_default(),
        spec: String::new(),
        method: "manual".to_owned(),
        place: String::new(),
        credential: String::new(),
        more: String::new(),
    };
    finished(&form_page(Shell::new(&operator, "fleet"), None, form, None))
}

pub(super) async fn add(
    State(app): State<App>,
    Signed(operator): Signed,
    Form(form): Form<HostForm>,
) -> Result<Response, PageError> {
    store(&app, Shell::new(&operator, "fleet"), None, form).await
}

pub(super) async fn edit(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let host = find(&app, &name).await?;
    let macs: Vec<String> = host.macs.iter().map(Mac::to_string).collect();
    let PowerFields { place, credential, more } = shown_power(&host.power);
    let form = HostForm {
        name: host.name.clone(),
        macs: macs.join("\n"),
        spec: host.spec_yaml.clone().unwrap_or_default(),
        method: method(&host.power).to_owned(),
        place,
        credential,
        more,
    };
    finished(&form_page(Shell::new(&operator, "fleet"), Some(host.name), form, None))
}

pub(super) async fn replace(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
    Form(form): Form<HostForm>,
) -> Result<Response, PageError> {
    let host = find(&app, &name).await?;
    store(&app, Shell::new(&operator, "fleet"), Some(host), form).await
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let host = find(&app, &name).await?;
    let row = app.engine.store().host_by_name(&host.name).await?;
    let runs = match row {
        Some(row) => {
            let filter = RunFilter { target: Some(row.id.into()), limit: HISTORY, ..RunFilter::default() };
            runs::lines(&app, filter).await?
        }
        None => Vec::new(),
    };
    let open = |state: RunState| !state.is_terminal();
    finished(&HostPage {
        shell: Shell::new(&operator, "fleet"),
        open_run: host.latest.as_ref().filter(|l| open(l.state)).map(|l| l.number),
        macs: host.macs.iter().map(Mac::to_string).collect(),
        power: told_power(&host.power),
        spec: host.spec_yaml,
        runs,
        profiles: Profile::ALL.map(|p| (p.as_str(), about(p.as_str()))),
        name: host.name,
    })
}

pub(super) async fn remove(
    State(app): State<App>,
    _: Signed,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    api::remove_host(&app, &name).await?;
    Ok(see_other("/"))
}

pub(super) async fn vet(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
    Form(form): Form<VetForm>,
) -> Result<Response, PageError> {
    let wanted = Vet {
        profile: Some(form.profile).filter(|p| !p.is_empty()),
        no_hold: form.no_hold.is_some(),
        ..Vet::default()
    };
    let run = api::vet(&app, &name, wanted, &operator.name).await?;
    Ok(see_other(&format!("/runs/{}", run.number)))
}

/// Takes a form, or gives it back with what is wrong in it.
async fn store(app: &App, shell: Shell, old: Option<Host>, form: HostForm) -> Result<Response, PageError> {
    let changing = old.as_ref().map(|h| h.name.clone());
    let problem = match read(&form, old.as_ref()) {
        Ok(new) => match api::register(app, new, old.is_some()).await {
            Ok(host) => return Ok(see_other(&format!("/hosts/{}", host.name))),
            Err(error) if error.status().is_server_error() => return Err(error.into()),
            Err(error) => Problem {
                field: "form",
                message: sentence(error.message()),
                hint: error.hint_text().map(sentence),
                place: None,
            },
        },
        Err(problem) => problem,
    };
    let again = form_page(shell, changing, form, Some(problem));
    page_with(StatusCode::UNPROCESSABLE_ENTITY, &again)
}

/// Reads a form.
fn read(form: &HostForm, old: Option<&Host>) -> Result<NewHost, Problem> {
    let wrong = |field, message: String| Problem { field, message, hint: None, place: None };
    let name = old.map_or_else(|| form.name.trim().to_owned(), |h| h.name.clone());
    if name.is_empty() {
        return Err(wrong("name", "give the machine a name".to_owned()));
    }
    let words =
        form.macs.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|w| !w.is_empty());
    let macs: Vec<Mac> = words
        .map(|word| word.parse().map_err(|e: assay_model::mac::BadMac| wrong("macs", e.to_string())))
        .collect::<Result<_, _>>()?;
    if macs.is_empty() {
        return Err(wrong(
            "macs",
            "at least one MAC address is needed: the machine is recognised by it".to_owned(),
        ));
    }
    let spec = Some(form.spec.replace("\r\n", "\n")).filter(|s| !s.trim().is_empty());
    if let Some(yaml) = &spec {
        HostSpec::from_yaml(yaml).map_err(|e| Problem {
            field: "spec",
            place: (e.line > 0).then_some((e.line, e.column)),
            message: e.message,
            hint: None,
        })?;
    }
    let power = read_power(form).map_err(|(field, message)| wrong(field, message))?;
    Ok(NewHost { name, macs, spec_yaml: spec, power: Some(power) })
}

/// The power setting that the form comes to, or the field that is wrong and why. What belongs to another method than
/// the chosen one is left alone: nobody has to empty fields to change their mind.
fn read_power(form: &HostForm) -> Result<Value, (&'static str, String)> {
    let place = form.place.trim();
    let (what, needs_password) = match form.method.as_str() {
        "manual" => return Ok(json!({ "method": "manual" })),
        "lab" => ("which lab machine? Give its name", false),
        "ipmi" => ("where is the BMC? Give its address", true),
        "redfish" => ("where is the BMC? Give its URL, such as https://10.20.0.31", true),
        "wol" => ("which card wakes the machine? Give its MAC address", false),
        other => return Err(("method", format!("`{other}` is not a power method"))),
    };
    if place.is_empty() {
        return Err(("place", what.to_owned()));
    }
    let credential = Some(form.credential.trim()).filter(|_| needs_password);
    if credential == Some("") {
        let message = "which password? Give the name of its entry in the runner's bmc-secrets.toml";
        return Err(("credential", message.to_owned()));
    }
    let more = form.more.lines().map(str::trim).filter(|line| !line.is_empty() && form.method != "lab");
    typed(&form.method, place, credential, more).map_err(|problem| {
        let field = match problem.split('`').nth(1) {
            Some("address" | "url" | "mac" | "machine") => "place",
            Some("credential") => "credential",
            _ => "more",
        };
        (field, problem)
    })
}

/// A stored setting, as the form shows it.
fn shown_power(power: &Value) -> PowerFields {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut fields = PowerFields::default();
    let place = place_of(method(power));
    for (key, value) in power.as_object().into_iter().flatten() {
        match key.as_str() {
            "method" => {}
            "credential" => fields.credential = text(value),
            key if Some(key) == place => fields.place = text(value),
            key => fields.more.extend([key, "=", &text(value), "\n"]),
        }
    }
    fields
}

fn form_page(shell: Shell, changing: Option<String>, form: HostForm, problem: Option<Problem>) -> FormPage {
    let mut methods: Vec<(String, String, bool)> =
        METHODS.iter().map(|(m, word)| ((*m).to_owned(), (*word).to_owned(), form.method == *m)).collect();
    if changing.is_some() && !methods.iter().any(|m| m.2) {
        methods.push((form.method.clone(), format!("{} (as it is)", form.method), true));
    }
    FormPage {
        shell,
        changing,
        name: form.name,
        macs: form.macs,
        spec: form.spec,
        methods,
        power: PowerFields { place: form.place, credential: form.credential, more: form.more },
        problem,
    }
}

fn method(power: &Value) -> &str {
    power.get("method").and_then(Value::as_str).unwrap_or("manual")
}

/// The power settings in words.
fn told_power(power: &Value) -> String {
    let fields = shown_power(power);
    let named = METHODS.iter().find(|(known, _)| *known == method(power)).map(|(_, word)| *word);
    match (method(power), named) {
        ("manual", _) => "by hand: someone switches it on when a run asks for it".to_owned(),
        (_, Some(word)) if fields.credential.is_empty() => format!("{word} {}", fields.place),
        (_, Some(word)) => format!("{word} {}, password {} on the runner", fields.place, fields.credential),
        (other, None) => other.to_owned(),
    }
}

fn about(profile: &str) -> &'static str {
    match profile {
        "quick" => "shorter tests; the verdict says so",
        "burnin" => "everything, for longer: new or suspect hardware",
        _ => "what a repaired machine has to pass",
    }
}

async fn find(app: &App, name: &str) -> Result<Host, ApiError> {
    api::host_with_latest(app, name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(macs: &str, spec: &str, method: &str) -> HostForm {
        HostForm {
            name: "node7".into(),
            macs: macs.into(),
            spec: spec.into(),
            method: method.into(),
            place: "m1".into(),
            credential: String::new(),
            more: String::new(),
        }
    }

    #[test]
    fn addresses_may_be_written_as_people_write_them() {
        let macs = |text| read(&form(text, "", "manual"), None).map(|n| n.macs.len()).map_err(|p| p.message);
        assert_eq!(macs("52:54:00:00:00:01, 52-54-00-00-00-02\r\n52:54:00:00:00:03"), Ok(3));
        assert_eq!(macs(" 52:54:00:00:00:01 52:54:00:00:00:02\n"), Ok(2));
        assert!(macs("52:54:00:00:00:01 5254").is_err_and(|m| m.contains("5254")), "the wrong one is named");
    }

    #[test]
    fn what_is_wrong_is_said_of_its_field() {
        let field = |f: HostForm| read(&f, None).map_or_else(|p| p.field, |_| "none");
        assert_eq!(field(form("", "", "manual")), "macs");
        assert_eq!(field(form("nonsense", "", "manual")), "macs");
        assert_eq!(field(form("52:54:00:00:00:01", "", "teleport")), "method");
        let power = |method: &str, place: &str, credential: &str, more: &str| {
            let (place, credential, more) = (place.into(), credential.into(), more.into());
            field(HostForm { place, credential, more, ..form("52:54:00:00:00:01", "", method) })
        };
        assert_eq!(power("lab", " ", "", ""), "place");
        assert_eq!(power("lab", "../x", "", ""), "place");
        assert_eq!(power("ipmi", "", "rack1", ""), "place");
        assert_eq!(power("ipmi", "10.20.0.31", " ", ""), "credential");
        assert_eq!(power("ipmi", "10.20.0.31", "../x", ""), "credential");
        assert_eq!(power("ipmi", "10.20.0.31", "rack1", "password=x"), "more");
        assert_eq!(power("redfish", "http://10.20.0.31", "rack1", ""), "place");
        assert_eq!(power("redfish", "https://10.20.0.31", "rack1", "timeout_s=1"), "more");
        assert_eq!(power("wol", "01:00:5e:00:00:01", "", ""), "place");
        assert_eq!(field(HostForm { name: " ".into(), ..form("52:54:00:00:00:01", "", "manual") }), "name");
    }

    #[test]
    fn a_wrong_spec_is_told_with_its_place() {
        let problem = read(&form("52:54:00:00:00:01", "format: 1\nmemry: {}\n", "manual"), None).err();
        let problem = problem.expect("an unknown key");
        assert_eq!((problem.field, problem.place.map(|p| p.0)), ("spec", Some(2)));
        assert!(problem.message.contains("memry"), "{}", problem.message);
    }

    #[test]
    fn every_power_setting_comes_back_from_the_form_as_it_went_in() {
        for power in [
            json!({ "method": "manual" }),
            json!({ "method": "lab", "machine": "healthy-bios" }),
            json!({ "method": "wol", "mac": "0c:c4:7a:12:34:56", "port": 7 }),
            json!({ "method": "ipmi", "address": "10.20.0.31", "credential": "rack1", "cipher_suite": 17,
                    "privilege": "operator", "firmware": "uefi" }),
            json!({ "method": "redfish", "url": "https://10.20.0.32", "credential": "rack1", "system": "1",
                    "insecure": true }),
        ] {
            let PowerFields { place, credential, more } = shown_power(&power);
            let method = method(&power).to_owned();
            let form = HostForm { method, place, credential, more, ..form("52:54:00:00:00:01", "", "") };
            assert_eq!(read_power(&form), Ok(power));
        }
        let ipmi = json!({ "method": "ipmi", "address": "10.20.0.31", "credential": "rack1" });
        assert_eq!(told_power(&ipmi), "IPMI 10.20.0.31, password rack1 on the runner");
        // Whoever goes back to switching by hand need not empty the other fields.
        let back = HostForm {
            credential: "rack1".into(),
            more: "x".into(),
            ..form("52:54:00:00:00:01", "", "manual")
        };
        assert_eq!(read_power(&back), Ok(json!({ "method": "manual" })));
    }
}
