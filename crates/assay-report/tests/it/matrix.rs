//! A matrix as a page and as JUnit: every try is there, and nothing that failed looks as if it had passed.

use std::collections::BTreeMap;

use assay_model::Sha256;
use assay_model::matrix::{
    Excuse, FORMAT, Matrix, MatrixAxis, MatrixCase, MatrixTry, QuarantineEntry, QuarantineState, TryVerdict,
};
use assay_report::{junit_of_matrix, matrix_html};

fn tried(case: &str, number: u32, verdict: TryVerdict) -> MatrixTry {
    let red = matches!(verdict, TryVerdict::Fail | TryVerdict::Unverified);
    MatrixTry {
        number,
        folder: format!("cases/{case}/{number}"),
        run: "0190".into(),
        verdict,
        stage: red.then(|| "Install".to_owned()),
        codes: if red { vec!["WrongDiskWritten".to_owned()] } else { Vec::new() },
        message: if red { "disk <USB0> was written to".into() } else { "up after 20.0 s".into() },
        next_step: red.then(|| "Look at how the installer chooses its disks.".to_owned()),
        seconds: Some(61.0),
        started_at: None,
        earlier: false,
        until: None,
        from_phase: None,
        muted: Vec::new(),
        unverified: 0,
    }
}

fn case(firmware: &str, disks: &str, tries: &[TryVerdict]) -> MatrixCase {
    let name = format!("firmware={firmware},disks={disks}");
    MatrixCase {
        values: BTreeMap::from([("firmware".into(), firmware.into()), ("disks".into(), disks.into())]),
        held_to: Sha256::ZERO,
        tries: tries.iter().zip(1..).map(|(verdict, number)| tried(&name, number, *verdict)).collect(),
        excused: None,
        name,
    }
}

fn matrix(cases: Vec<MatrixCase>) -> Matrix {
    let axis = |name: &str, values: [&str; 2]| MatrixAxis {
        name: name.to_owned(),
        values: values.map(str::to_owned).to_vec(),
    };
    Matrix {
        format: FORMAT,
        name: "small".into(),
        image: "small.iso".into(),
        sha256: Sha256::ZERO,
        assay: "0".into(),
        began_at: "2026-01-01T00:00:00Z".into(),
        ended_at: "2026-01-01T00:10:00Z".into(),
        axes: vec![axis("firmware", ["bios", "uefi"]), axis("disks", ["one", "two"])],
        cases,
        not_asked: Vec::new(),
        quarantine: Vec::new(),
    }
}

fn excuse() -> Excuse {
    Excuse { owner: "kim".into(), until: "2026-12-31".into(), reason: "waits for a <fix>".into() }
}

/// Suite, name, status and message of every test in the document.
fn told(text: &str) -> Vec<String> {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        value.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">")
    };
    let mut told = Vec::new();
    for suite in text.split("<testsuite ").skip(1) {
        let name = attribute(&format!(" {suite}"), "name");
        for test in suite.split("<testcase").skip(1) {
            let (tag, inside) = test.split_once('>').expect("a tag");
            let status = inside.trim_start().strip_prefix('<').filter(|_| !tag.ends_with('/'));
            let word = status
                .and_then(|status| status.split([' ', '/', '>']).next())
                .filter(|word| !word.is_empty());
            let message = status.map(|status| attribute(status, "message")).unwrap_or_default();
            told.push(format!("{name} {}: {} {message}", attribute(tag, "name"), word.unwrap_or("passed")));
        }
    }
    told
}

use TryVerdict::{Fail, NoVerdict, Pass};

#[test]
fn in_junit_a_case_that_passed_only_when_it_was_run_again_has_failed() {
    let told = told(&junit_of_matrix(&matrix(vec![case("bios", "one", &[Fail, Pass])]), &BTreeMap::new()));
    let [only] = told.as_slice() else { panic!("{told:?}") };
    assert!(only.starts_with("image small[firmware=bios,disks=one] every try: failure flaky:"), "{only}");
    assert!(
        only.contains("try 1 fail WrongDiskWritten: disk <USB0>") && only.contains("try 2 pass"),
        "{only}"
    );
}

#[test]
fn in_junit_nothing_is_passed_that_is_not() {
    let mut known = case("bios", "one", &[Fail]);
    known.excused = Some(excuse());
    let cases = vec![
        known,
        case("bios", "two", &[]),
        case("uefi", "one", &[NoVerdict]),
        case("uefi", "two", &[Fail, Fail]),
    ];
    let told = told(&junit_of_matrix(&matrix(cases), &BTreeMap::new()));
    assert_eq!(told.len(), 4, "{told:?}");
    let of = |n: usize, word: &str| assert!(told[n].contains(word), "{}", told[n]);
    of(0, "every try: skipped in quarantine until 2026-12-31, kim looks after it: waits for a <fix>");
    of(1, "every try: error not run");
    of(2, "every try: error no verdict; try 1 no verdict");
    of(3, "every try: failure try 1 fail WrongDiskWritten");
    of(3, "try 2 fail");
    // A runner that failed first is no blemish of the image's, and is told all the same.
    let again = junit_of_matrix(&matrix(vec![case("bios", "one", &[NoVerdict, Pass])]), &BTreeMap::new());
    assert!(told_one(&again).contains("every try: passed"), "{again}");
}

fn told_one(text: &str) -> String {
    told(text).into_iter().next().expect("a test")
}

#[test]
fn the_page_has_every_try_and_the_worst_as_its_headline() {
    let mut known = case("bios", "one", &[Fail]);
    known.excused = Some(excuse());
    let entry = |what: &str, state| QuarantineEntry {
        what: what.to_owned(),
        excuse: excuse(),
        state,
        cases: vec!["firmware=bios,disks=one".to_owned()],
    };
    let mut all = matrix(vec![known.clone(), case("bios", "two", &[Pass])]);
    all.quarantine = vec![
        entry("WrongDiskWritten of firmware=bios", QuarantineState::Holds),
        entry("KernelPanic", QuarantineState::Over),
    ];
    let page = matrix_html(&all, &BTreeMap::from([(known.name, b"\x89PNG".to_vec())]));
    assert!(page.contains("PASS – FAILURES IN QUARANTINE"));
    assert!(page.contains("The quarantine of KernelPanic was over on 2026-12-31: it counts again."));
    assert!(page.contains("data:image/png;base64,iVBORw=="), "the picture of what failed");
    assert!(page.contains("href=\"./cases/firmware=bios,disks=one/1/report.html\""));

    all.cases.push(case("uefi", "one", &[Fail, Pass]));
    let page = matrix_html(&all, &BTreeMap::new());
    assert!(
        page.contains("<strong>FLAKY</strong>") && page.contains("try 1 fail: Install · WrongDiskWritten")
    );
    assert!(page.contains("left out"), "uefi on two disks is none of the cases");
    all.not_asked = vec!["firmware=uefi,disks=two".to_owned()];
    let page = matrix_html(&all, &BTreeMap::new());
    assert!(page.contains(">not asked for<") && !page.contains("left out"), "it is one, then");
    all.not_asked.clear();

    all.cases.push(case("uefi", "two", &[Pass, Fail]));
    let page = matrix_html(&all, &BTreeMap::new());
    assert!(
        page.contains("<strong>FAIL</strong>")
            && page.contains("cases/firmware=uefi,disks=two/2/report.html")
    );
    assert!(matrix_html(&matrix(Vec::new()), &BTreeMap::new()).contains("<strong>NO RESULT</strong>"));
}

#[test]
fn what_machines_say_stays_text_and_nothing_is_fetched() {
    let mut all = matrix(vec![case("bios", "one", &[Fail])]);
    all.cases[0].tries[0].message = "<script>alert(1)</script>\u{1b}[31m".into();
    all.image = "\"><img src=x>".into();
    let page = matrix_html(&all, &BTreeMap::new());
    assert!(!page.contains("<script") && !page.contains("<img src=x") && !page.contains('\u{1b}'));
    assert!(page.contains("default-src 'none'") && !page.contains("http://") && !page.contains("https://"));
}
