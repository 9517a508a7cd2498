//! Line charts as plain geometry: the template draws them as inline SVG, so they print and scale.

use std::fmt::Write as _;

use crate::Series;
use crate::words::span;

/// The drawing's size in its own units, and the plot's place in it.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 28.0;

/// More points than the plot has pixels only make the file large.
const BUCKETS: usize = 240;

/// Distinct looks (colour and dashes) that the style sheet has.
const LOOKS: usize = 8;

/// All series of one unit.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) unit: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) y_ticks: Vec<Tick>,
    pub(crate) x_ticks: Vec<Tick>,
}

/// One series.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Which look, from 0.
    pub(crate) look: usize,
    /// `M x y L x y …`; empty when there is nothing to draw.
    pub(crate) path: String,
    pub(crate) readings: usize,
    pub(crate) min: String,
    pub(crate) max: String,
    /// When the highest reading was.
    pub(crate) max_at: String,
    pub(crate) last: String,
}

/// A grid line and its label.
#[derive(Debug)]
pub(crate) struct Tick {
    pub(crate) at: String,
    pub(crate) label: String,
}

/// One chart per unit, in order of first appearance.
pub(crate) fn charts(series: &[Series]) -> Vec<Chart> {
    let mut units: Vec<&str> = Vec::new();
    for s in series {
        if !units.contains(&s.unit.as_str()) {
            units.push(&s.unit);
        }
    }
    units.into_iter().map(|unit| chart(unit, series.iter().filter(|s| s.unit == unit))).collect()
}

fn chart<'a>(unit: &str, series: impl Iterator<Item = &'a Series>) -> Chart {
    let series: Vec<(&str, Vec<(f64, f64)>)> = series.map(|s| (s.name.as_str(), finite(&s.points))).collect();
    let all = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let (low, high, step) = nice(bounds(all().map(|p| p.1)));
    let (start, end) = bounds(all().map(|p| p.0));
    let end = if end > start { end } else { start + 1.0 };
    let x = |t: f64| LEFT + (t - start) / (end - start) * (RIGHT - LEFT);
    let y = |v: f64| BOTTOM - (v - low) / (high - low) * (BOTTOM - TOP);
    let y_ticks = (0_i32..=12)
        .map(|i| low + f64::from(i) * step)
        .take_while(|v| *v <= high + step / 2.0)
        .map(|v| Tick { at: format!("{:.1}", y(v)), label: number(v, step) })
        .collect();
    let x_ticks = (0_i32..=4)
        .map(|i| start + f64::from(i) / 4.0 * (end - start))
        .map(|t| Tick {
            at: format!("{:.1}", x(t)),
            label: if t == 0.0 { "0".to_owned() } else { span(t.round()) },
        })
        .collect();
    let lines = series
        .iter()
        .enumerate()
        .map(|(i, (name, points))| line(i, name, points, unit, step, &|(t, v)| (x(t), y(v))))
        .collect();
    Chart { unit: unit.to_owned(), lines, y_ticks, x_ticks }
}

fn line(
    index: usize,
    name: &str,
    points: &[(f64, f64)],
    unit: &str,
    step: f64,
    place: &dyn Fn((f64, f64)) -> (f64, f64),
) -> Line {
    let value =
        |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{} {unit}", number(v, step / 10.0)));
    let peak = points.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    let mut path = String::new();
    for point in thin(points) {
        let (x, y) = place(point);
        path.push_str(if path.is_empty() { "M" } else { "L" });
        let _ = write!(path, "{x:.1} {y:.1}");
    }
    Line {
        name: name.to_owned(),
        look: index % LOOKS,
        path,
        readings: points.len(),
        min: value(points.iter().map(|p| p.1).min_by(f64::total_cmp)),
        max: value(peak.map(|p| p.1)),
        max_at: peak.map_or_else(|| "–".to_owned(), |p| span(p.0)),
        last: value(points.last().map(|p| p.1)),
    }
}

fn finite(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().copied().filter(|(t, v)| t.is_finite() && v.is_finite()).collect()
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low.is_finite() { (low, high) } else { (0.0, 1.0) }
}

/// Round limits around some bounds and the distance of grid lines: 1, 2 or 5 times a power of ten.
fn nice((low, high): (f64, f64)) -> (f64, f64, f64) {
    let least = (low.abs().max(high.abs()) * 0.02).max(0.01);
    let raw = (high - low).max(least) / 4.0;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
    let bottom = (low / step).floor() * step;
    let top = (high / step).ceil() * step;
    (bottom, if top > bottom { top } else { bottom + step }, step)
}

fn number(value: f64, step: f64) -> String {
    let decimals = if step >= 1.0 { 0 } else { (-step.log10()).ceil().clamp(0.0, 3.0) as usize };
    format!("{value:.decimals$}")
}

/// At most two points per bucket, its lowest and its highest: a peak of one reading stays visible.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * BUCKETS {
        return points.to_vec();
    }
    let mut out = Vec::with_capacity(2 * BUCKETS);
    for bucket in points.chunks(points.len().div_ceil(BUCKETS)) {
        let low = bucket.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let high = bucket.iter().enumerate().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        if let (Some(low), Some(high)) = (low, high) {
            let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
            out.push(*first.1);
            if first.0 != second.0 {
                out.push(*second.1);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(unit: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: "s".into(), unit: unit.into(), points }
    }

    #[test]
    fn series_share_a_chart_by_unit_and_limits_are_round() {
        let charts = charts(&[
            series("°C", vec![(0.0, 31.0), (60.0, 84.5)]),
            series("RPM", vec![(0.0, 1200.0)]),
            series("°C", vec![(0.0, 40.0), (60.0, 44.0)]),
        ]);
        assert_eq!(
            charts.iter().map(|c| (c.unit.as_str(), c.lines.len())).collect::<Vec<_>>(),
            [("°C", 2), ("RPM", 1)]
        );
        let labels: Vec<_> = charts[0].y_ticks.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(labels, ["20", "40", "60", "80", "100"]);
        assert_eq!(
            (charts[0].lines[0].max.as_str(), charts[0].lines[0].max_at.as_str()),
            ("84 °C", "1 m 00 s")
        );
    }

    #[test]
    fn a_single_hot_reading_survives_thinning() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), 40.0 + f64::from(i % 3))).collect();
        points[77_777].1 = 99.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= 2 * BUCKETS && thinned.contains(&(77_777.0, 99.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0), "time never runs back");
    }

    #[test]
    fn nothing_and_nonsense_draw_nothing() {
        for points in [vec![], vec![(0.0, f64::NAN)], vec![(f64::INFINITY, 1.0)]] {
            let charts = charts(&[series("V", points)]);
            assert_eq!((charts[0].lines[0].path.as_str(), charts[0].lines[0].max.as_str()), ("", "–"));
        }
        let flat = charts(&[series("V", vec![(0.0, 12.0), (1.0, 12.0)])]);
        assert!(!flat[0].lines[0].path.contains("NaN") && flat[0].y_ticks.len() >= 2);
    }
}
