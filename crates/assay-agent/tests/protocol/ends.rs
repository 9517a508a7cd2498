//! Ends: a stranger answers, the token is refused, a newer boot takes over.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use assay_agent::{Agent, ExitReason};

use crate::machine::{Canned, Said, hurried};
use crate::plane::{Fault, Plane, Shown};
use crate::{Running, shutdown};

#[tokio::test]
async fn a_stranger_gets_nothing_and_is_asked_again_and_again() {
    let shown = Shown::valid(2020, 2040);
    let stolen = Plane::showing(shown.stolen()).await;
    let mut stranger = Plane::showing(Shown::valid(2020, 2040)).await;
    let strangers = stranger.fingerprint;
    stranger.fingerprint = shown.fingerprint();
    for (plane, expected) in [
        (
            stranger,
            format!(
                "NOT the expected control plane at 127.0.0.1:PORT: its certificate is sha256:{strangers}"
            ),
        ),
        // Its certificate is the right one, but it cannot sign with that certificate's key.
        (stolen, "the control plane at 127.0.0.1:PORT cannot be reached: ".to_owned()),
    ] {
        let agent = Running::start(&plane, None);
        plane.until("it tries again", |state| state.failed_handshakes >= 3).await;
        let expected = expected.replace("PORT", &plane.address.port().to_string());
        assert_eq!(agent.said.count(&expected), 1, "{:#?}", agent.said.lines());
        agent.kill().await;
        let state = plane.state();
        assert_eq!((state.hellos.len(), state.unauthorised), (0, 0));
    }
}

#[tokio::test]
async fn a_refused_agent_says_so_and_never_asks_again() {
    for (status, code) in
        [(409, "token_reused"), (403, "wrong_machine"), (410, "token_expired"), (404, "not_found")]
    {
        let plane = Plane::start().await;
        plane.state().fault("hello", &[Fault::Refuse(status, code)]);
        let dir = tempfile::tempdir().expect("folder");
        let (reason, said) = Running::start(&plane, Some(dir.path())).end().await;
        let why = format!("because the test says so ({code})");
        assert_eq!((&reason, reason.code()), (&ExitReason::Refused(why.clone()), 3));
        assert_eq!(said.last(), Some(&format!("assay: this machine may not enrol: {why}")));
        let (reason, said) = Running::start(&plane, Some(dir.path())).end().await;
        assert_eq!((reason, said), (ExitReason::AlreadyEnded, Vec::new()));
        assert!(plane.state().hellos.is_empty());
    }
}

#[tokio::test]
async fn a_void_credential_ends_the_agent() {
    for place in ["sensor", "heartbeat", "next"] {
        let plane = Plane::start().await;
        let dir = tempfile::tempdir().expect("folder");
        let agent = Running::start(&plane, Some(dir.path()));
        plane.until("at work", |state| !state.sensors.is_empty()).await;
        plane.state().fault(place, &[Fault::Refuse(401, "unauthorized")]);
        let (reason, said) = agent.end().await;
        assert_eq!((reason.code(), matches!(reason, ExitReason::Void(_))), (3, true), "{place}: {reason:?}");
        assert_eq!(
            said.iter().filter(|line| line.contains("this boot of the machine counts no more")).count(),
            1
        );
        assert_eq!(Running::start(&plane, Some(dir.path())).end().await.0, ExitReason::AlreadyEnded);
        // A new boot has a new token, and starts from nothing.
        *plane.state() = crate::plane::State::default();
        let mut settings = hurried(&plane, Some(dir.path()), &Said::default());
        settings.boot.token = "another".to_owned();
        plane.command(shutdown());
        assert_eq!(Agent::run(settings, Arc::new(Canned::default())).await, ExitReason::PoweredOff);
        assert_eq!(plane.state().hellos[0].token, "another");
    }
}

#[tokio::test]
async fn the_credential_is_for_root_only() {
    let plane = Plane::start().await;
    let dir = tempfile::tempdir().expect("folder");
    let agent = Running::start(&plane, Some(dir.path()));
    plane.until("enrolled", |state| !state.beats.is_empty()).await;
    let mode = std::fs::metadata(dir.path().join("run/credential")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.kill().await;
}

#[tokio::test]
async fn the_machine_goes_off_after_the_goodbye_and_only_then() {
    let plane = Plane::start().await;
    plane.state().fault("off", &[Fault::Break, Fault::Refuse(503, "starting")]);
    let dir = tempfile::tempdir().expect("folder");
    let off = dir.path().join("off");
    let mut settings = hurried(&plane, None, &Said::default());
    settings.poweroff = vec!["touch".to_owned(), off.display().to_string()];
    plane.command(shutdown());
    assert_eq!(Agent::run(settings, Arc::new(Canned::default())).await, ExitReason::PoweredOff);
    assert!(off.exists());
    assert_eq!(plane.state().offs, 1);

    let said = Said::default();
    let mut settings = hurried(&plane, None, &said);
    plane.state().hellos.clear();
    settings.poweroff = vec!["false".to_owned()];
    let reason = Agent::run(settings, Arc::new(Canned::default())).await;
    assert_eq!((reason.code(), matches!(reason, ExitReason::PowerOffFailed(_))), (1, true), "{reason:?}");
    assert_eq!(said.count("this machine could not be switched off"), 1, "{:#?}", said.lines());
}
