use uuid::Uuid;

use super::*;
use crate::compat::{Component, Outcome, TrialVerdict, days};
use crate::{RunId, TargetId};

const NOW: Micros = Micros::seconds(1_000 * 86_400);

fn machine(board: &str, nic: &str, hosts: &[&str]) -> Machine {
    let part = |kind, name: &str| Component {
        kind,
        name: name.to_owned(),
        count: 1,
        drivers: vec![format!("{name}-driver")],
    };
    let components = vec![part(ComponentKind::Board, board), part(ComponentKind::Network, nic)];
    let fingerprint = Fingerprint { components };
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Machine { digest: fingerprint.digest(), fingerprint, hosts }
}

fn trial(number: i64, machine: &Machine, name: &str, image: &[u8], verdict: TrialVerdict) -> Trial {
    Trial {
        run: RunId(Uuid::from_u128(number as u128)),
        number,
        host: TargetId(Uuid::from_u128(1)),
        host_name: "web-3".to_owned(),
        machine: machine.digest,
        digest: Sha256::of(image),
        volume: Some("MINE".to_owned()),
        outcome: Outcome {
            image: name.to_owned(),
            verdict,
            at: Micros::seconds(number),
            codes: Vec::new(),
            unverified: 0,
        },
    }
}

fn image(number: i64, name: &str, content: &[u8]) -> Image {
    Image { digest: Sha256::of(content), name: name.to_owned(), volume: None, run: number }
}

fn shown(grid: &Grid<'_>) -> Vec<String> {
    let cell = |cell: &Cell<'_>| format!("{}({})", cell.state, cell.evidence.len());
    let row = |row: &Row<'_>| {
        let cells: Vec<_> = row.cells.iter().map(cell).collect();
        let name = if row.kind == ComponentKind::Machine { &row.spoken } else { &row.name };
        format!("{} {name} [{}]: {}", row.kind, row.hosts.join(","), cells.join(" "))
    };
    grid.rows.iter().map(row).collect()
}

#[test]
fn a_trial_is_one_of_every_component_of_its_machine() {
    let machines =
        [machine("b1", "n1", &["web-1"]), machine("b2", "n1", &["web-3", "web-2"]), machine("b3", "n3", &[])];
    let trials = [
        trial(1, &machines[0], "my", b"old", TrialVerdict::Pass),
        trial(2, &machines[1], "my", b"old", TrialVerdict::Fail),
        trial(3, &machines[0], "my", b"new", TrialVerdict::Pass),
    ];
    let newest = [image(9, "my", b"newest"), image(7, "my", b"a"), image(8, "never-on-metal", b"x")];
    let all = grid(&machines, &trials, &newest, &Filter::default(), (NOW, days(5000)));
    let names: Vec<_> = all.images.iter().map(|i| (i.name.as_str(), i.digest, i.run)).collect();
    assert_eq!(
        names,
        [("my", Sha256::of(b"newest"), 9), ("my", Sha256::of(b"new"), 3), ("my", Sha256::of(b"old"), 1)],
        "newest first; what no machine has seen is no column until it is asked for"
    );
    let mut told = shown(&all);
    told[..3].sort();
    insta::assert_snapshot!(told.join("\n"), @r"
    machine b1 [web-1]: unknown(0) works(1) works(1)
    machine b2 [web-2,web-3]: unknown(0) unknown(0) fails(1)
    machine b3 []: unknown(0) unknown(0) unknown(0)
    board b1 [web-1]: unknown(0) works(1) works(1)
    board b2 [web-2,web-3]: unknown(0) unknown(0) fails(1)
    board b3 []: unknown(0) unknown(0) unknown(0)
    network n1 [web-1,web-2,web-3]: unknown(0) works(1) mixed(2)
    network n3 []: unknown(0) unknown(0) unknown(0)
    ");
    assert_eq!(all.rows[3].drivers, ["b1-driver"]);
}

#[test]
fn a_filter_takes_away_rows_and_columns_and_changes_no_cell() {
    let machines = [machine("Board One", "n1", &["web-1"]), machine("b2", "n1", &["db-1"])];
    let trials: Vec<_> =
        (1..=6).map(|n| trial(n, &machines[0], "my", &[n as u8], TrialVerdict::Pass)).collect();
    let newest = [image(9, "other", b"other")];
    let ask = |image: Option<String>, kind, component: Option<&str>| {
        let filter = Filter { image, kind, component: component.map(str::to_owned) };
        let grid = grid(&machines, &trials, &newest, &filter, (NOW, days(1)));
        (grid.images.len(), grid.images_left_out, shown(&grid))
    };
    let (columns, left_out, _) = ask(None, None, None);
    assert_eq!((columns, left_out), (3, 3), "the newest of an image, and it is said that there are more");
    assert_eq!(ask(Some("my".into()), None, None).0, 6, "asked for by name, all are shown");
    assert_eq!(ask(Some("other".into()), None, None).0, 1);
    assert_eq!(ask(Some(Sha256::of(&[3]).to_string()), None, None).0, 1);
    assert_eq!(ask(Some(Sha256::of(&[3]).to_string()[..8].to_owned()), None, None).0, 1);
    assert_eq!(ask(Some(Sha256::of(&[3]).to_string()[..7].to_owned()), None, None).0, 0, "that is too short");
    let rows = |kind, component| ask(Some(Sha256::of(&[3]).to_string()), kind, component).2;
    assert_eq!(rows(Some(ComponentKind::Network), None), ["network n1 [db-1,web-1]: works(1)"]);
    assert_eq!(rows(Some(ComponentKind::Board), Some("board")), ["board Board One [web-1]: works(1)"]);
    assert_eq!(rows(Some(ComponentKind::Machine), Some("DB-")), ["machine b2 [db-1]: unknown(0)"]);
    assert_eq!(rows(None, Some("db-1")), ["machine b2 [db-1]: unknown(0)"], "hosts name machines");
    assert_eq!(rows(None, Some("nothing")), Vec::<String>::new());
}
