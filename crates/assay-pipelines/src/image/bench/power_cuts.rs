//! Every power cut of one installation: it is recorded once, and a machine is booted from what each moment in which the
//! power could have gone leaves on its disks.
//!
//! A log knows the order within its disk. Between disks it is taken from when the logs grew: a cut at a flush of one
//! disk finds the others at their own last flush by then.

mod boots;
mod recording;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Instant;

use assay_media::writelog::{Boundary, DiskState, Moment, Replay};
use assay_model::power_cuts::{Became, CutAt, FORMAT, PowerCuts, StateSeen};
use assay_model::{RunId, Sha256};
use futures::StreamExt as _;

use self::boots::{Boots, Job};
use self::recording::Recorded;
use super::install::Progress;
use super::{BenchSettings, Test, blocking};
use crate::image::ImageSpec;
use crate::image::cuts::{Files, chosen, when};

/// How much of it.
#[derive(Clone, Debug)]
pub struct Explore {
    /// Machines at once.
    pub jobs: usize,
    /// States that are booted at most: the first, the last, and evenly between.
    pub limit: Option<usize>,
}

/// What came of it.
#[derive(Debug)]
pub struct Explored {
    /// The report.
    pub cuts: PowerCuts,
    /// Transcripts: of the installation, and of each state that did not become what it should.
    pub artifacts: Vec<(String, Vec<u8>)>,
}

/// A moment, and what every disk has by then: for each disk the number of its boundary.
struct Point {
    at_s: f64,
    disk: usize,
    boundary: Boundary,
    reached: Vec<usize>,
}

/// Installs once, and boots what each cut leaves, until all is done or `stop` is.
///
/// # Errors
/// Why nothing could be recorded, for people: a fault of the runner, or an installation that does not succeed.
pub async fn explore(
    settings: &BenchSettings,
    spec: &ImageSpec,
    explore: &Explore,
    progress: Progress<'_>,
    stop: impl Future<Output = ()>,
) -> Result<Explored, String> {
    let mut stop = std::pin::pin!(stop);
    let mut test = Test::new(run_id(spec), spec, settings)?;
    test.recorded = true;
    let recorded = tokio::select! {
        recorded = recording::record(&mut test, progress) => recorded?,
        () = &mut stop => return Err("stopped before the installation was recorded".to_owned()),
    };
    let points = points(&recorded);
    progress("replaying the recording");
    let (named, whole) = plan(&test, &recorded, &points).await?;
    let mut artifacts = recorded.artifacts.clone();
    let (mut report, first_of) = drawn_up(&test, &recorded, &points, &named);
    report.limit = explore.limit;
    let picked = chosen(report.states.len(), explore.limit);
    progress(&format!(
        "{} moments leave {} different states; {} are booted",
        report.cuts.len(),
        report.states.len(),
        picked.len()
    ));
    let boots = Boots::new(&test, &recorded, whole)?;
    let began = Instant::now();
    let mut done = 0;
    let all = async {
        // A state is laid out when a machine is free for it: the recording is replayed once, from its beginning to its end.
        let layer = Layer::new(&test, &recorded, "lay").await?;
        let jobs = futures::stream::unfold((layer, picked.iter().copied()), |(mut layer, mut left)| {
            let (points, first_of, boots) = (&points, &first_of, &boots);
            async move {
                let state = left.next()?;
                let point = &points[first_of[state]];
                let laid = layer.lay_out(point, boots.folder(state)).await;
                let after_success = recorded.success_s.is_some_and(|success| point.at_s >= success);
                let job = laid.map(|images| Job { state, images, after_success });
                Some((job, (layer, left)))
            }
        });
        let mut running = std::pin::pin!(
            jobs.map(async |job| match job {
                Ok(job) => Ok((job.state, boots.boot(job).await?)),
                Err(problem) => Err(problem),
            })
            .buffer_unordered(explore.jobs.max(1))
        );
        while let Some(booted) = running.next().await {
            let (state, seen) = booted?;
            done += 1;
            let left = picked.len() - done;
            let each = began.elapsed().as_secs_f64() / done as f64;
            let cut = &report.cuts[report.states[state].first];
            progress(&format!(
                "{done} of {}: a cut after {:.1} s ({}): {}; about {:.0} min left",
                picked.len(),
                cut.at_s,
                cut.phase,
                seen.became.words(),
                (each * left as f64 / 60.0).ceil()
            ));
            let told = &mut report.states[state];
            told.became = seen.became;
            told.code = seen.code;
            told.why = seen.why;
            told.seconds = seen.seconds;
            if let Some((name, text)) = seen.transcript {
                told.transcript = Some(name.clone());
                artifacts.push((name, text));
            }
        }
        Ok::<(), String>(())
    };
    let ended = tokio::select! {
        ended = all => Some(ended),
        () = &mut stop => None,
    };
    match ended {
        Some(Ok(())) => {}
        // What was seen is kept, and the report says that it is not all.
        Some(Err(problem)) => report.not_covered.push(format!("it ended early: {problem}")),
        None => report
            .not_covered
            .push("it was stopped: states that are marked as not booted were not".to_owned()),
    }
    report.conclude();
    Ok(Explored { cuts: report, artifacts })
}

/// A run of its own for each seed and image.
fn run_id(spec: &ImageSpec) -> RunId {
    let digest = Sha256::of(format!("{} {}", spec.image.display(), spec.seed).as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.0[..16]);
    RunId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The moments of all disks in the order of time.
fn points(recorded: &Recorded) -> Vec<Point> {
    let mut all: Vec<(f64, usize, usize, Boundary)> = Vec::new();
    for (disk, log) in recorded.logs.iter().enumerate() {
        for (number, boundary) in log.log.boundaries().into_iter().enumerate() {
            // One start is enough, and it is before everything.
            if boundary.moment == Moment::Start && disk > 0 {
                continue;
            }
            let at_s = match boundary.moment {
                Moment::Start => 0.0,
                Moment::End => recorded.ended_s,
                Moment::Flush | Moment::Forced => when(&log.grown, boundary.logged_by),
            };
            all.push((at_s, disk, number, boundary));
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut reached = vec![0; recorded.logs.len()];
    all.into_iter()
        .map(|(at_s, disk, number, boundary)| {
            reached[disk] = number.max(reached[disk]);
            Point { at_s, disk, boundary, reached: reached.clone() }
        })
        .collect()
}

/// Copies of all disks that follow the recording.
struct Layer {
    disks: Vec<(Replay, Vec<Boundary>, PathBuf, usize)>,
}

impl Layer {
    async fn new(test: &Test, recorded: &Recorded, name: &str) -> Result<Self, String> {
        let mut disks = Vec::new();
        for log in &recorded.logs {
            let image = test.path(&format!("{name}-{}.raw", log.disk));
            let (base, copy, read) = (log.base.clone(), image.clone(), log.log.clone());
            let boundaries = read.boundaries();
            let replay = blocking(move || {
                super::disks::sparse_copy(&base, &copy).map_err(|error| error.to_string())?;
                Replay::new(read, &base, &copy).map_err(|error| error.to_string())
            })
            .await??;
            disks.push((replay, boundaries, image, 0));
        }
        Ok(Self { disks })
    }

    /// Brings all disks to a moment and says what is on them.
    async fn to(&mut self, point: &Point) -> Result<Vec<DiskState>, String> {
        let mut disks = std::mem::take(&mut self.disks);
        let reached = point.reached.clone();
        let (disks, states) = blocking(move || {
            let mut states = Vec::new();
            for ((replay, boundaries, _, at), wanted) in disks.iter_mut().zip(reached) {
                let mut state = None;
                // Each boundary in its turn: forced writes count only from their own.
                for boundary in &boundaries[*at..=wanted] {
                    state = Some(replay.to(boundary).map_err(|error| error.to_string()));
                    if matches!(state, Some(Err(_))) {
                        break;
                    }
                }
                *at = wanted;
                states.push(state.unwrap_or_else(|| Err("a recording without a moment".to_owned())));
            }
            (disks, states.into_iter().collect::<Result<Vec<_>, _>>())
        })
        .await?;
        self.disks = disks;
        states
    }

    /// Copies of the disks as they are at a moment, for a machine of their own.
    async fn lay_out(&mut self, point: &Point, folder: PathBuf) -> Result<Vec<PathBuf>, String> {
        self.to(point).await?;
        let images: Vec<PathBuf> = self.disks.iter().map(|(_, _, image, _)| image.clone()).collect();
        blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let mut copies = Vec::new();
            for (place, image) in images.iter().enumerate() {
                let copy = folder.join(format!("disk-{place}.raw"));
                super::disks::sparse_copy(image, &copy)
                    .map_err(|error| format!("{}: {error}", copy.display()))?;
                copies.push(copy);
            }
            Ok(copies)
        })
        .await?
    }
}

/// The name of each moment's state, and the files that belong to a whole system: those of the first moment after success.
async fn plan(test: &Test, recorded: &Recorded, points: &[Point]) -> Result<(Vec<String>, Files), String> {
    let mut layer = Layer::new(test, recorded, "plan").await?;
    let mut named = Vec::with_capacity(points.len());
    let mut whole = None;
    for (place, point) in points.iter().enumerate() {
        let states = layer.to(point).await?;
        let images: Vec<PathBuf> = layer.disks.iter().map(|(_, _, image, _)| image.clone()).collect();
        let bytes: Vec<u8> = states.iter().flat_map(|state| state.0).collect();
        // Of a disk that a BIOS finds no code on, it reads nothing but the first sector: all such states are one to it.
        let name = match boots::nothing_to_start(&test.spec.profile.machine, &images) {
            Some(sectors) => format!("first sectors {}", Sha256::of(&sectors)),
            None => Sha256::of(&bytes).to_string(),
        };
        named.push(name);
        let succeeded = recorded.success_s.is_some_and(|success| point.at_s >= success);
        if whole.is_none() && (succeeded || place + 1 == points.len()) {
            let disks: Vec<String> = recorded.logs.iter().map(|log| log.disk.clone()).collect();
            let changes = test.spec.profile.power_cut.changes.clone();
            whole = Some(blocking(move || boots::files(&disks, &images, &changes)).await?);
        }
    }
    Ok((named, whole.unwrap_or_default()))
}

/// The report before anything was booted, and for each state the moment that it is taken from.
fn drawn_up(test: &Test, recorded: &Recorded, points: &[Point], named: &[String]) -> (PowerCuts, Vec<usize>) {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut cuts, mut states, mut first_of) = (Vec::new(), Vec::<StateSeen>::new(), Vec::new());
    for (number, (point, name)) in points.iter().zip(named).enumerate() {
        let state = *known.entry(name).or_insert_with(|| {
            first_of.push(number);
            states.push(StateSeen {
                first: number,
                moments: 0,
                became: Became::NotTried,
                code: String::new(),
                why: String::new(),
                seconds: 0.0,
                transcript: None,
            });
            states.len() - 1
        });
        states[state].moments += 1;
        let moment = match point.boundary.moment {
            Moment::Start => "start",
            Moment::Flush => "flush",
            Moment::Forced => "forced",
            Moment::End => "end",
        };
        cuts.push(CutAt {
            number,
            at_s: point.at_s,
            phase: recorded.phase_at(point.at_s),
            disk: recorded.logs[point.disk].disk.clone(),
            moment: moment.to_owned(),
            entries: point.boundary.entries,
            state,
        });
    }
    let report = PowerCuts {
        format: FORMAT,
        profile: test.spec.profile.name.clone(),
        image: test.spec.image.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: recorded.image,
        assay: env!("CARGO_PKG_VERSION").to_owned(),
        seed: test.spec.seed,
        accel: test.accel_words(),
        stretch: test.stretch,
        success_s: recorded.success_s.unwrap_or(recorded.ended_s),
        ended_s: recorded.ended_s,
        written: recorded.written,
        cuts,
        states,
        limit: None,
        complete: false,
        not_covered: not_covered(recorded.logs.len()),
        problems: Vec::new(),
    };
    (report, first_of)
}

fn not_covered(disks: usize) -> Vec<String> {
    let mut all = vec![
        "writes that were on their way between two flushes and survive in part or in another order"
            .to_owned(),
        "sectors that are torn in the middle, and disks that say that they have flushed and have not"
            .to_owned(),
        "UEFI variables and the TPM in the middle of the installation: the machine has those of its end"
            .to_owned(),
    ];
    if disks > 1 {
        all.push(
            "the order of flushes of different disks within some milliseconds: it is taken from when the logs grew"
                .to_owned(),
        );
    }
    all
}
