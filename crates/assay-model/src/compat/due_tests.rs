use uuid::Uuid;

use super::*;
use crate::RunId;
use crate::compat::{Component, ComponentKind, Outcome, TrialVerdict, days};

const NOW: Micros = Micros::seconds(1_000 * 86_400);

fn kind(board: &str) -> Fingerprint {
    let name = board.to_owned();
    Fingerprint {
        components: vec![Component { kind: ComponentKind::Board, name, count: 1, drivers: Vec::new() }],
    }
}

fn host(n: u128, board: &str) -> Standing {
    Standing { host: TargetId(Uuid::from_u128(n)), name: format!("web-{n}"), fingerprint: kind(board) }
}

struct Told(Vec<Trial>);

impl Told {
    /// A run of `my` on this host, so many days ago.
    fn then(mut self, host: &Standing, image: &[u8], verdict: TrialVerdict, days_ago: u32) -> Self {
        let number = self.0.len() as i64 + 1;
        self.0.push(Trial {
            run: RunId(Uuid::from_u128(number as u128)),
            number,
            host: host.host,
            host_name: host.name.clone(),
            machine: host.fingerprint.digest(),
            digest: Sha256::of(image),
            volume: None,
            outcome: Outcome {
                image: "my".to_owned(),
                verdict,
                at: NOW.since(days(days_ago)),
                codes: Vec::new(),
                unverified: 0,
            },
        });
        self
    }

    fn due(&self, hosts: &[Standing], newest: &[Image]) -> Vec<(DueReason, Vec<String>, i64)> {
        let found = due(hosts, &self.0, newest, (NOW, days(90)));
        found.into_iter().map(|due| (due.reason, due.hosts, due.after)).collect()
    }
}

fn image(run: i64, name: &str, content: &[u8]) -> Image {
    Image { digest: Sha256::of(content), name: name.to_owned(), volume: None, run }
}

use TrialVerdict::{Fail, Pass, Unverified};

#[test]
fn nothing_is_due_where_the_newest_image_was_tried_lately() {
    let (one, two) = (host(1, "b1"), host(2, "b2"));
    let told = Told(Vec::new()).then(&one, b"a", Pass, 3);
    assert_eq!(told.due(&[one.clone(), two.clone()], &[]), [], "nobody is told to try it on web-2");
    assert_eq!(told.due(std::slice::from_ref(&one), &[image(5, "other", b"x")]), [], "nor another image");
    for verdict in [Fail, Unverified] {
        assert_eq!(
            Told(Vec::new()).then(&one, b"a", verdict, 300).due(std::slice::from_ref(&one), &[]),
            [],
            "it was tried"
        );
    }
}

#[test]
fn a_newer_image_is_due_on_every_kind_that_had_an_earlier_one() {
    let (one, twin, two) = (host(1, "b1"), host(3, "b1"), host(2, "b2"));
    let told = Told(Vec::new()).then(&one, b"a", Pass, 9).then(&two, b"a", Pass, 8).then(&two, b"b", Pass, 7);
    let all = [two.clone(), twin, one.clone()];
    let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    // One test on either of the twins is enough.
    assert_eq!(told.due(&all, &[]), [(DueReason::ImageChanged, hosts(&["web-1", "web-3"]), 1)]);
    // An image that only virtual machines have seen is newer still.
    let newer = [image(9, "my", b"c")];
    let mut due = told.due(&all, &newer);
    due.sort();
    assert_eq!(
        due,
        [
            (DueReason::ImageChanged, hosts(&["web-1", "web-3"]), 1),
            (DueReason::ImageChanged, hosts(&["web-2"]), 3)
        ]
    );
    // An old image that is tested once more is no new one.
    let again = told.then(&two, b"a", Pass, 1);
    assert_eq!(again.due(&all, &[]), [(DueReason::ImageChanged, hosts(&["web-1", "web-3"]), 1)]);
}

#[test]
fn new_hardware_is_due_unless_its_kind_is_known() {
    let before = host(1, "b1");
    let after = Standing { fingerprint: kind("b1 and a card"), ..before.clone() };
    let told = Told(Vec::new()).then(&before, b"a", Pass, 3);
    assert_eq!(
        told.due(std::slice::from_ref(&after), &[]),
        [(DueReason::MachineChanged, vec!["web-1".to_owned()], 1)]
    );
    let twin = host(2, "b1 and a card");
    let told = told.then(&twin, b"a", Pass, 2);
    assert_eq!(told.due(std::slice::from_ref(&after), &[]), []);
    // Then the image changes: both reasons hold, and the one that says more is told.
    let due = told.due(&[after], &[image(9, "my", b"b")]);
    assert_eq!(due, [(DueReason::MachineChanged, vec!["web-1".to_owned()], 1)]);
}

#[test]
fn what_works_grows_old() {
    let one = host(1, "b1");
    let told = Told(Vec::new()).then(&one, b"a", Pass, 91).then(&one, b"a", Unverified, 1);
    assert_eq!(told.due(std::slice::from_ref(&one), &[]), [(DueReason::Stale, vec!["web-1".to_owned()], 1)]);
    let told = told.then(&one, b"a", Pass, 1);
    assert_eq!(told.due(&[one], &[]), []);
}
