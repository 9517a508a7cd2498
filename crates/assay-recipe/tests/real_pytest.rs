//! Tests of a recipe in Python, run by the real pytest with the plugin of `examples/recipes/pytest_assay`, as a run would:
//! found in the folder, told by a context, started by their first line.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_process::{Child, Cmd, Output};
use assay_recipe::customise::{
    Context, Customisation, Operation, OperationName, OperationState, Options, Paths, Placement,
    RecipeIdentity,
    context::{Browser, VARIABLE},
};
use indexmap::IndexMap;
use serde_json::json;

const HEAD: &str =
    "#!/usr/bin/env -S python3 -m pytest -q -p pytest_assay -p no:cacheprovider\n# assay-context: 1\n";

fn plugin() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    root.join("examples/recipes/pytest_assay")
}

/// Debian's Python before any other: its package is where pytest comes from.
const PATH: &str = "/usr/bin:/bin:/usr/local/bin";

/// Whether there is a pytest; where there is none, nothing is shown and that is said.
async fn has_pytest() -> bool {
    let version = Cmd::new("python3").args(["-m", "pytest", "--version"]).env("PATH", PATH).run().await;
    let there = version.is_ok_and(|output| output.success());
    if !there {
        eprintln!("NOT TESTED: python3 has no pytest; install the package python3-pytest");
    }
    there
}

/// A folder of tests and the run's own folder.
struct Run {
    tests: tempfile::TempDir,
    work: tempfile::TempDir,
    browser: Option<Browser>,
}

impl Run {
    fn new(files: &[(&str, &str)]) -> Self {
        let (tests, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = Self { tests, work, browser: None };
        for (name, body) in files {
            let path = run.tests.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let is_test = Path::new(name).extension().is_some_and(|extension| extension == "py");
            fs::write(&path, if is_test { format!("{HEAD}{body}") } else { (*body).to_owned() }).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(if is_test { 0o755 } else { 0o644 }))
                .unwrap();
        }
        run
    }

    fn context(&self, found: &Customisation, op: Option<Operation>) -> Context {
        let credentials = [("client_id", "app"), ("client_secret", "s3cret")];
        let credentials: IndexMap<String, String> =
            credentials.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Context {
            format: assay_recipe::customise::context::FORMAT,
            recipe: RecipeIdentity {
                name: "ghost".to_owned(),
                version: Some("1.2.0+5.1".to_owned()),
                commit: None,
            },
            domain: "ghost.test".to_owned(),
            base_url: (!found.settings.settings.http.none).then(|| "http://ghost.test:8080".to_owned()),
            stack: "ghost_test".to_owned(),
            op,
            meta: found.settings.settings.clone(),
            deps: [("sso".to_owned(), credentials)].into_iter().collect(),
            paths: Paths { work: self.work.path().to_owned(), ca_file: None },
            browser: self.browser.clone(),
        }
    }

    /// Runs the one test at a placement.
    async fn run(&self, placement: Placement, op: Option<Operation>) -> Output {
        let found = Customisation::discover(self.tests.path(), Options::default()).unwrap();
        let [test] = found.tests_at(placement) else { panic!("one test") };
        let file = self.work.path().join("context.json");
        self.context(&found, op).write(&file).unwrap();
        self.start(&test.path).env(VARIABLE, &file).run().await.unwrap()
    }

    fn start(&self, test: &Path) -> Cmd {
        Cmd::new(test)
            .env("PATH", PATH)
            .env("PYTHONPATH", plugin())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .cwd(self.work.path())
            .timeout(Duration::from_mins(1))
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", output.stdout_text(), output.stderr_text())
}

#[tokio::test]
async fn a_test_is_told_everything_by_fixtures() {
    if !has_pytest().await {
        return;
    }
    let body = r#"
import pytest

def test_it_is_told(assay, meta, deps, op_state, base_url, ssl_context):
    assert assay["domain"] == "ghost.test" and assay["stack"] == "ghost_test"
    assert meta["http"]["path"] == "/ghost" and meta["http"]["status"] == (200,)
    assert meta["deploy"]["timeout"] == "10m"
    assert deps["sso"]["client_secret"] == "s3cret"
    assert op_state is None and ssl_context is None
    assert base_url == "http://ghost.test:8080"

def test_nothing_can_be_changed(assay, meta, deps):
    for change in (
        lambda: assay.update(domain="x"),
        lambda: meta["http"].__setitem__("path", "/"),
        lambda: deps.__setitem__("sso", {}),
        lambda: deps["sso"].__setitem__("client_id", "x"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            change()

def test_an_unknown_dependency_is_named(deps):
    with pytest.raises(KeyError, match="declares sso"):
        deps["keycloak"]
"#;
    let run = Run::new(&[("assay.toml", "[http]\npath = \"/ghost\"\n"), ("functional/told.py", body)]);
    let output = run.run(Placement::Functional, None).await;
    assert!(output.success(), "{}", text(&output));
    assert!(text(&output).contains("3 passed"), "{}", text(&output));
}

#[tokio::test]
async fn a_test_after_an_operation_sees_it_and_its_failure_is_the_exit_status() {
    if !has_pytest().await {
        return;
    }
    let body = r#"
def test_it_moved(op_state):
    assert (op_state["name"], op_state["state"]) == ("upgrade", "done")
    assert op_state["facts"]["from"] != op_state["facts"]["to"], "it did not move"
"#;
    let upgrade = |to: &str| {
        let facts = json!({ "from": "1.1.0+5.0", "to": to });
        let facts = facts.as_object().unwrap().clone();
        Some(Operation { name: OperationName::Upgrade, state: OperationState::Done, facts })
    };
    let run = Run::new(&[("test_upgrade.py", body)]);
    let output = run.run(Placement::After(OperationName::Upgrade), upgrade("1.2.0+5.1")).await;
    assert!(output.success(), "{}", text(&output));
    let run = Run::new(&[("test_upgrade.py", body)]);
    let output = run.run(Placement::After(OperationName::Upgrade), upgrade("1.1.0+5.0")).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("it did not move"), "{}", text(&output));
}

#[tokio::test]
async fn a_recipe_without_a_web_face_has_no_base_url() {
    if !has_pytest().await {
        return;
    }
    let run = Run::new(&[
        ("assay.toml", "[http]\nnone = true\n"),
        ("functional/url.py", "\ndef test_url(base_url):\n    pass\n"),
    ]);
    let output = run.run(Placement::Functional, None).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("this recipe has no web face"), "{}", text(&output));
}

#[tokio::test]
async fn without_a_context_of_this_form_the_test_says_what_is_missing() {
    if !has_pytest().await {
        return;
    }
    let run = Run::new(&[("functional/any.py", "\ndef test_any(assay):\n    pass\n")]);
    let test = run.tests.path().join("functional/any.py");
    let output = run.start(&test).run().await.unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("$ASSAY_CONTEXT is not set"), "{}", text(&output));
    let file = run.work.path().join("context.json");
    fs::write(&file, "{\"format\": 2}").unwrap();
    let output = run.start(&test).env(VARIABLE, &file).run().await.unwrap();
    assert!(text(&output).contains("has form 2, and this plugin reads form 1"), "{}", text(&output));
}

/// Debian's driver on a port of its choice, and how a session with its browser is asked for.
async fn driver(folder: &Path) -> Option<(Child, Browser)> {
    let there = assay_process::find_program("chromedriver").is_ok();
    let Ok(chromium) = assay_process::find_program("chromium").inspect_err(|_| {
        eprintln!("NOT TESTED: there is no chromium; install the packages chromium and chromium-driver");
    }) else {
        return None;
    };
    assert!(there, "chromium is there without its driver; install the package chromium-driver");
    let command = Cmd::new("chromedriver").arg("--port=0").env("TMPDIR", folder).env("HOME", folder);
    let mut child = command.spawn().await.expect("it starts");
    let port: u16 = loop {
        let line = child.next_line().await.expect("a line").text;
        let words = line.split_once("started successfully on port ");
        if let Some((_, port)) = words {
            break port.trim_end_matches('.').parse().expect("a port");
        }
    };
    let capabilities = json!({ "goog:chromeOptions": {
        "binary": chromium,
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
    } });
    let webdriver_url = format!("http://127.0.0.1:{port}");
    Some((child, Browser { webdriver_url, capabilities }))
}

#[tokio::test]
async fn a_browser_is_a_fixture_with_a_session_for_each_test() {
    if !has_pytest().await {
        return;
    }
    let profiles = tempfile::tempdir().unwrap();
    let Some((mut child, browser)) = driver(profiles.path()).await else { return };
    let body = r##"
import pytest
from pytest_assay import BrowserError

PAGE = """data:text/html,<title>Shop</title><h1 class="big">Hello</h1><ul><li>tea<li>milk</ul>
<input name="who" value="old"><button onclick="setTimeout(() => {
    const p = document.createElement('p'); p.id = 'later';
    p.textContent = 'Signed in as ' + document.querySelector('input').value; document.body.append(p) }, 300)">Go</button>"""

def test_a_page_is_read_and_used(browser):
    browser.open(PAGE)
    assert browser.title == "Shop" and browser.url.startswith("data:text/html")
    assert browser.find("h1").text == "Hello" and browser.find("h1").attribute("class") == "big"
    assert [one.text for one in browser.find_all("li")] == ["tea", "milk"]
    browser.find("input[name=who]").fill("ada")
    browser.find("button").click()
    # It comes a moment later, and is waited for.
    assert browser.find("#later").text == "Signed in as ada"
    assert "Signed in as ada" in browser.text and "<ul>" in browser.source
    assert browser.run("return arguments[0] + 1", 41) == 42

def test_each_has_a_session_of_its_own(browser):
    assert browser.url in ("data:,", "about:blank")

def test_what_the_browser_cannot_do_is_said(browser):
    browser.open(PAGE)
    with pytest.raises(BrowserError, match="javascript error"):
        browser.run("throw new Error('no')")
    with pytest.raises(BrowserError, match="invalid selector"):
        browser.find("[[")
"##;
    let mut run = Run::new(&[("browser/page.py", body)]);
    run.browser = Some(browser);
    let output = run.run(Placement::Browser, None).await;
    assert!(output.success() && text(&output).contains("3 passed"), "{}", text(&output));
    child.stop(Duration::from_secs(5)).await.expect("it ends");
    // Elsewhere there is none, and the test says where it belongs.
    let run = Run::new(&[("functional/page.py", "\ndef test_page(browser):\n    pass\n")]);
    let output = run.run(Placement::Functional, None).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("for tests in `browser/` alone"), "{}", text(&output));
}
