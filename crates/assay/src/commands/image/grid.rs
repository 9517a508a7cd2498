//! A matrix on a terminal: the last axis across, the others down, a word in each cell.

use assay_model::matrix::{CaseVerdict, Matrix, MatrixAxis, MatrixCase};

/// The widest cell, in characters.
const CELL: usize = 68;

/// The widest line; of a matrix that is wider, every case is a line of its own.
const WIDEST: usize = 120;

/// The grid, line by line.
pub(super) fn lines(matrix: &Matrix) -> Vec<String> {
    let all: Vec<&MatrixAxis> = matrix.axes.iter().collect();
    if let [down @ .., across] = all.as_slice()
        && !down.is_empty()
    {
        let lines = table(matrix, down, Some(across));
        if lines.iter().all(|line| line.chars().count() <= WIDEST) {
            return lines;
        }
    }
    table(matrix, &all, None)
}

fn table(matrix: &Matrix, down: &[&MatrixAxis], across: Option<&MatrixAxis>) -> Vec<String> {
    let mut header: Vec<String> = down.iter().map(|axis| axis.name.clone()).collect();
    match across {
        Some(across) => header.extend(across.values.iter().map(|value| format!("{}={value}", across.name))),
        None => header.push("verdict".to_owned()),
    }
    let mut rows: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for case in &matrix.cases {
        let value = |axis: &str| case.values.get(axis).map_or("", String::as_str);
        let place: Vec<&str> = down.iter().map(|axis| value(&axis.name)).collect();
        let column =
            across.and_then(|axis| axis.values.iter().position(|v| v == value(&axis.name))).unwrap_or(0);
        let row = if let Some(row) = rows.iter().position(|(known, _)| *known == place) {
            row
        } else {
            let columns = across.map_or(1, |across| across.values.len());
            rows.push((place, vec!["·".to_owned(); columns]));
            rows.len() - 1
        };
        rows[row].1[column] = cell(case);
    }
    let mut table = vec![header];
    table.extend(
        rows.into_iter()
            .map(|(place, cells)| place.into_iter().map(str::to_owned).chain(cells).collect::<Vec<_>>()),
    );
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| table.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|n| width(n).unwrap_or(0)).collect();
    table
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end())
        })
        .collect()
}

/// `FAIL Install FailMarker 41 s`.
fn cell(case: &MatrixCase) -> String {
    let mut words = vec![match case.verdict() {
        CaseVerdict::Fail => "FAIL".to_owned(),
        _ => case.word(),
    }];
    if let Some(one) = case.decisive() {
        if one.is_red() {
            words.extend(one.stage.clone());
            words.extend(one.codes.first().cloned());
        }
        words.extend(one.seconds.map(|seconds| format!("{seconds:.0} s")));
    }
    if case.tries.len() > 1 {
        words.push(format!("({} tries)", case.tries.len()));
    }
    if case.tries.last().is_some_and(|last| last.earlier) {
        words.push("(carried over)".to_owned());
    }
    if case.excused.is_some() {
        words.push("(in quarantine)".to_owned());
    }
    let text = words.join(" ");
    if text.chars().count() <= CELL { text } else { text.chars().take(CELL - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use assay_model::Sha256;
    use assay_model::matrix::{Excuse, FORMAT, MatrixTry, TryVerdict};

    use super::*;

    fn case(values: &[(&str, &str)], tries: &[TryVerdict]) -> MatrixCase {
        let name: Vec<_> = values.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        let tries = tries.iter().zip(1..).map(|(verdict, number)| MatrixTry {
            number,
            folder: format!("cases/{}/{number}", name.join(",")),
            run: String::new(),
            verdict: *verdict,
            stage: (*verdict == TryVerdict::Fail).then(|| "Install".to_owned()),
            codes: if *verdict == TryVerdict::Fail { vec!["FailMarker".to_owned()] } else { Vec::new() },
            message: String::new(),
            next_step: None,
            seconds: Some(41.4),
            started_at: None,
            earlier: false,
            until: None,
            from_phase: None,
            muted: Vec::new(),
            unverified: 0,
        });
        MatrixCase {
            name: name.join(","),
            values: values.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect(),
            held_to: Sha256::ZERO,
            tries: tries.collect(),
            excused: None,
        }
    }

    fn matrix(axes: &[(&str, &[&str])], cases: Vec<MatrixCase>) -> Matrix {
        let one = |(name, values): &(&str, &[&str])| MatrixAxis {
            name: (*name).to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        Matrix {
            format: FORMAT,
            name: "small".into(),
            image: "small.iso".into(),
            sha256: Sha256::ZERO,
            assay: "0".into(),
            began_at: String::new(),
            ended_at: String::new(),
            axes: axes.iter().map(one).collect(),
            cases,
            not_asked: Vec::new(),
            quarantine: Vec::new(),
        }
    }

    #[test]
    fn two_axes_are_rows_and_columns_and_what_is_left_out_is_a_dot() {
        use TryVerdict::{Fail, Pass};
        let axes: &[(&str, &[&str])] = &[("firmware", &["bios", "uefi"]), ("disks", &["one", "two"])];
        let mut known = case(&[("firmware", "uefi"), ("disks", "two")], &[Fail]);
        known.excused = Some(Excuse { owner: "kim".into(), until: String::new(), reason: String::new() });
        let cases = vec![
            case(&[("firmware", "bios"), ("disks", "one")], &[Pass]),
            case(&[("firmware", "uefi"), ("disks", "one")], &[Fail, Pass]),
            known,
        ];
        insta::assert_snapshot!(lines(&matrix(axes, cases)).join("\n"), @r"
          firmware  disks=one             disks=two
          bios      pass 41 s             ·
          uefi      flaky 41 s (2 tries)  FAIL Install FailMarker 41 s (in quarantine)
        ");
    }

    #[test]
    fn what_would_be_too_wide_is_a_list() {
        let values: Vec<String> = (0..12).map(|n| format!("a-rather-long-name-{n}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let axes: &[(&str, &[&str])] = &[("firmware", &["bios"]), ("disks", &values)];
        let cases = values.iter().map(|v| case(&[("firmware", "bios"), ("disks", v)], &[TryVerdict::Pass]));
        let lines = lines(&matrix(axes, cases.collect()));
        assert_eq!((lines.len(), lines[12].as_str()), (13, "  bios      a-rather-long-name-11  pass 41 s"));
    }

    #[test]
    fn one_axis_is_a_list_and_none_a_word() {
        use TryVerdict::{NoVerdict, Pass};
        let axes: &[(&str, &[&str])] = &[("disks", &["one", "two"])];
        let cases = vec![case(&[("disks", "one")], &[Pass]), case(&[("disks", "two")], &[NoVerdict])];
        insta::assert_snapshot!(lines(&matrix(axes, cases)).join("\n"), @r"
          disks  verdict
          one    pass 41 s
          two    no verdict 41 s
        ");
        let alone = MatrixCase { values: BTreeMap::new(), ..case(&[("disks", "one")], &[Pass]) };
        insta::assert_snapshot!(lines(&matrix(&[], vec![alone])).join("\n"), @r"
          verdict
          pass 41 s
        ");
    }
}
