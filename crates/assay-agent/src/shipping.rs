//! Log lines, the agent's own and the kernel's, gathered into numbered chunks for the spool.

use std::sync::Arc;

use assay_api::agent::{LogChunk, LogLine};
use assay_model::text;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::agent::Context;
use crate::clock;
use crate::console::RawLine;
use crate::spool::Header;

/// Lines in one chunk: with [`MAX_LINE`], far below the largest body that is taken.
const MAX_LINES: usize = 500;
/// Characters of one line.
const MAX_LINE: usize = 2000;

/// Ships lines until the context says farewell and no line is left.
pub(crate) async fn ship_lines(context: Arc<Context>, mut lines: mpsc::Receiver<RawLine>) {
    let known = context.spool.kernel_seq();
    let mut full = false;
    loop {
        let mut chunk = Vec::new();
        let leaving = tokio::select! {
            biased;
            count = lines.recv_many(&mut chunk, MAX_LINES) => count == 0,
            () = context.farewell.cancelled() => true,
        };
        if !leaving && chunk.len() < MAX_LINES && !context.farewell.is_cancelled() {
            // Lines come in bursts.
            tokio::select! {
                () = sleep(context.settings.pacing.log_flush) => {}
                () = context.farewell.cancelled() => {}
            }
        }
        while chunk.len() < MAX_LINES
            && let Ok(line) = lines.try_recv()
        {
            chunk.push(line);
        }
        // After a restart the kernel tells everything again.
        chunk.retain(|line| line.kernel_seq.is_none_or(|seq| known.is_none_or(|known| seq > known)));
        if chunk.is_empty() {
            if leaving {
                return;
            }
            continue;
        }
        full = spool(&context, &chunk, full);
    }
}

/// Returns whether the lane is full.
fn spool(context: &Context, chunk: &[RawLine], was_full: bool) -> bool {
    let clock = context.session.clock;
    let mut lines: Vec<LogLine> = chunk
        .iter()
        .map(|line| LogLine {
            at: clock.at(line.at),
            source: line.source.to_owned(),
            text: text::clean_to(&line.text, MAX_LINE),
        })
        .collect();
    let dropped = context.console.take_dropped();
    if dropped > 0 {
        lines.push(LogLine {
            at: clock.at(clock::since_boot()),
            source: "agent".to_owned(),
            text: format!("{dropped} log lines were lost: they came faster than they could be kept"),
        });
    }
    let count = lines.len() as u64;
    let body = |seq| serde_json::to_vec(&LogChunk { seq, lines }).expect("plain data");
    if context.spool.logs.append(&Header::Log, body).is_err() {
        context.console.add_dropped(count.max(dropped));
        if !was_full {
            context.console.print("the spool for log lines is full; new lines are lost");
        }
        return true;
    }
    if let Some(seq) = chunk.iter().filter_map(|line| line.kernel_seq).max() {
        context.spool.set_kernel_seq(seq);
    }
    false
}
