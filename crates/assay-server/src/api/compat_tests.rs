use super::*;

fn cell(what: CellState, stale: bool, age_days: u32, codes: &[&str]) -> CompatCell {
    let verdict = assay_model::compat::TrialVerdict::Fail;
    let evidence = CompatRun {
        run: 7,
        id: assay_model::RunId(uuid::Uuid::nil()),
        verdict,
        at: Micros(0),
        host: "web-3".to_owned(),
        machine: Sha256::ZERO,
        codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        unverified: 0,
    };
    let known = what != CellState::Unknown;
    CompatCell {
        state: what,
        stale,
        at: known.then_some(Micros(0)),
        run: known.then_some(7),
        age_days: known.then_some(age_days),
        runs: 2,
        evidence: known.then_some(evidence).into_iter().collect(),
    }
}

#[test]
fn every_answer_says_what_was_looked_at_and_what_to_do() {
    let cells = [
        cell(CellState::Works, false, 0, &[]),
        cell(CellState::Works, true, 95, &[]),
        cell(CellState::Fails, false, 1, &["KernelPanic", "SlowBoot"]),
        cell(CellState::Fails, true, 400, &[]),
        cell(CellState::Mixed, false, 2, &["KernelPanic"]),
        cell(CellState::Unverified, false, 3, &["MachineDidNotReturn"]),
        cell(CellState::Unknown, false, 0, &[]),
    ];
    let mut told = Vec::new();
    for cell in &cells {
        let answer = concluded(cell);
        told.push(format!("{answer:?}"));
        told.push(format!("  {}", message("my (1f2e)", "web-3", cell, 90)));
        told.push(format!("  {}", next_step(answer, "my (1f2e)", "web-3", cell).unwrap_or("-".to_owned())));
    }
    insta::assert_snapshot!(told.join("\n"), @r"
    Works
      my (1f2e) works on this kind of machine (run 7, today)
      -
    NotKnown
      my (1f2e) worked on this kind of machine (run 7, 95 days ago; that is more than 90 days)
      Test my (1f2e) there (an installer writes to the host's disks): `assay image test FILE --profile PROFILE --on web-3`.
    Fails
      my (1f2e) fails on this kind of machine (run 7, 1 day ago: KernelPanic, SlowBoot)
      Read what run 7 found (/runs/7), and try another image.
    NotKnown
      my (1f2e) failed on this kind of machine (run 7, 400 days ago; that is more than 90 days)
      Test my (1f2e) there (an installer writes to the host's disks): `assay image test FILE --profile PROFILE --on web-3`.
    NotKnown
      my (1f2e) has passed and failed on this kind of machine (2 runs; last run 7, 2 days ago: KernelPanic)
      Compare the runs that passed with those that failed. More runs do not decide about these bytes; a newer image begins anew: `assay image test FILE --profile PROFILE --on web-3`.
    NotKnown
      my (1f2e) was tried on this kind of machine, and came to no verdict (run 7, 3 days ago: MachineDidNotReturn)
      Test my (1f2e) there (an installer writes to the host's disks): `assay image test FILE --profile PROFILE --on web-3`.
    NotKnown
      my (1f2e) was never tried on a machine of web-3's kind
      Test my (1f2e) there (an installer writes to the host's disks): `assay image test FILE --profile PROFILE --on web-3`.
    ");
}

#[test]
fn ages_are_whole_days_within_reason() {
    let days = |text: &str| age(Some(text)).map_err(|e| e.message().to_owned());
    assert_eq!((age(None).ok(), days(""), days(" 7 ")), (Some(MAX_AGE_DAYS), Ok(MAX_AGE_DAYS), Ok(7)));
    for bad in ["0", "-1", "1.5", "x", "36501", "99999999999"] {
        assert!(days(bad).expect_err("refused").contains("from 1 to 36500"), "{bad}");
    }
}
