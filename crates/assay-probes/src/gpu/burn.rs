//! The tool `gpu-burn`, where it is present. Its exit status is 0 with faulty GPUs, and it has printed `OK` after a
//! failed start (wilicc/gpu-burn issues 12 and 14), so only its text is read, and all of it.

use std::path::Path;
use std::time::Duration;

use assay_model::host::gpu::{BurnGpu, GpuBurn};
use assay_model::text::clean_to;
use assay_process::{Cmd, ProcessError};

use crate::Machine;

const NAMES: [&str; 2] = ["gpu_burn", "gpu-burn"];
/// Start, compare and end, beyond the time that it was asked for.
const AIR: Duration = Duration::from_mins(2);
const MAX_OUTPUT: usize = 4 << 20;
const MAX_GPUS: usize = 64;

/// Runs it; `None` where it is not there. The second part is its output.
pub(super) async fn run(
    machine: &Machine,
    duration: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> (Option<GpuBurn>, Option<Vec<u8>>) {
    for name in NAMES {
        let tool = machine.tool(name);
        let Ok(found) = assay_process::find_program(&tool) else { continue };
        progress(&format!("{name} for {} s", duration.as_secs()));
        let mut command = Cmd::new(tool)
            .arg(duration.as_secs().max(1).to_string())
            .timeout(duration + AIR)
            .max_output(MAX_OUTPUT);
        // It looks for its kernel in the folder that it is started in.
        if let Some(folder) = found.canonicalize().ok().as_deref().and_then(Path::parent) {
            command = command.cwd(folder);
        }
        return match command.run().await {
            Ok(output) => {
                let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.push_str(&String::from_utf8_lossy(&output.stderr));
                let mut burn = parse(&text);
                if output.stdout_truncated {
                    burn.finished = false;
                    burn.problems.push(format!("{name} wrote more than {MAX_OUTPUT} bytes"));
                }
                (Some(burn), Some(text.into_bytes()))
            }
            Err(ProcessError::NotFound { .. }) => continue,
            Err(problem) => {
                let problems = vec![clean_to(&problem.to_string(), 300)];
                (Some(GpuBurn { problems, ..GpuBurn::default() }), None)
            }
        };
    }
    (None, None)
}

/// Reads its text. Progress lines end with a carriage return.
pub(super) fn parse(text: &str) -> GpuBurn {
    let mut burn = GpuBurn::default();
    let (mut counted, mut tested): (Vec<u64>, Option<usize>) = (Vec::new(), None);
    for line in text.split(['\n', '\r']).map(str::trim) {
        if let Some((_, rest)) = line.split_once("errors:") {
            let rest = rest.split("temps:").next().unwrap_or_default();
            for (slot, count) in rest.split(" - ").take(MAX_GPUS).enumerate() {
                let digits: String = count.trim().chars().take_while(char::is_ascii_digit).collect();
                let count = digits.parse().unwrap_or(0);
                match counted.get_mut(slot) {
                    Some(most) => *most = count.max(*most),
                    None => counted.push(count),
                }
            }
        } else if let Some(rest) = line.strip_prefix("Tested ") {
            tested = rest.split(' ').next().and_then(|count| count.parse().ok());
        } else if let Some((number, verdict)) =
            tested.and(line.strip_prefix("GPU ")).and_then(|rest| rest.split_once(": "))
            && let Ok(number) = number.parse()
        {
            burn.gpus.push(BurnGpu { number, ok: verdict.trim() == "OK", errors: 0 });
        }
        let failed = ["Couldn't init", "No clients are alive", "DIED", "failed to", "Error"];
        if failed.iter().any(|sign| line.contains(sign)) && burn.problems.len() < 10 {
            burn.problems.push(clean_to(line, 200));
        }
    }
    for gpu in &mut burn.gpus {
        gpu.errors = counted.get(gpu.number as usize).copied().unwrap_or(0);
    }
    burn.finished =
        tested.is_some_and(|count| count > 0 && count == burn.gpus.len()) && burn.problems.is_empty();
    burn
}
