//! How fast a console is read: `cargo run --release --example throughput -p assay-console`.
//!
//! A log as of an installer, about 20 MB, with kernel messages in programs' lines, colours and progress bars, ten
//! markers and the whole catalogue; in chunks as large as a file is read, as a socket gives them, and as an emulated
//! serial port does.

use std::time::{Duration, Instant};

use assay_console::{Console, Marker, Watch, What};

fn main() {
    let log = log(20 << 20);
    for chunk in [1 << 20, 4096, 16] {
        let mut console = Console::new(Watch { markers: markers(), ..Watch::default() });
        let start = Instant::now();
        let (mut sightings, mut markers, mut lines) = (0, 0, 0);
        for bytes in log.chunks(chunk) {
            let seen = console.push(Duration::ZERO, bytes);
            sightings += seen.len();
            markers += seen.iter().filter(|sighting| matches!(sighting.what, What::Marker { .. })).count();
            if lines % 64 == 0 {
                lines += console.take_lines().len();
            }
        }
        lines += console.take_lines().len();
        let seconds = start.elapsed().as_secs_f64();
        let megabytes = log.len() as f64 / 1e6;
        println!(
            "chunks of {chunk:7}: {megabytes:.1} MB in {seconds:.3} s, {:.0} MB/s; {lines} lines, {sightings} sightings, {markers} of markers",
            megabytes / seconds
        );
    }
}

fn markers() -> Vec<Marker> {
    [
        r"zeta-installer login:",
        r"\[iter-5\.2\.2\]\s+generated: (\S+)",
        r"ZETA CLUSTER NODE INSTALL COMPLETE",
        r"^(?P<host>node-[0-9a-f]{6}) login: ",
        r"Welcome to (\S+) \(Zeta cluster node\)",
        r"\[zeta-first-boot\] Install failed",
        r"provenance (?:esp|iso|keystroke):(\S+)",
        r"composed ClusterNode maintainer=(\S+) node=(\S+)",
        r"(?i)installation (?:step )?failed",
        r"^ERROR: (.+)",
    ]
    .iter()
    .enumerate()
    .map(|(index, pattern)| Marker::new(format!("marker {index}"), pattern).expect("a pattern"))
    .collect()
}

/// Lines as an installer prints them, over and over.
fn log(bytes: usize) -> Vec<u8> {
    let mut log = Vec::with_capacity(bytes + 4096);
    let mut n = 0u64;
    while log.len() < bytes {
        n += 1;
        let (seconds, micros) = (n / 50, n * 19_997 % 1_000_000);
        let text = match n % 12 {
            0 => format!(
                "[{seconds:5}.{micros:06}] usb {}-1: new high-speed USB device number {} using xhci_hcd\r\n",
                n % 9,
                n % 127
            ),
            1 => format!(
                "Unpac[{seconds:5}.{micros:06}] EXT4-fs (vda{}): mounted filesystem with ordered data mode. Quota mode: none.\r\nking linux-image-6.1.0-{} ...\r\n",
                n % 4,
                n % 90
            ),
            2 => format!(
                "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39munit-{n}.service\x1b[0m - A Service of the System.\r\n"
            ),
            3 => progress(),
            4 => format!(
                "copying path '/nix/store/{n:032x}-unit-panic-on-fail.service.drv' from 'https://cache.example'...\r\n"
            ),
            5 => format!(
                "[{seconds:5}.{micros:06}] systemd[1]: Starting modprobe@configfs.service - Load Kernel Module configfs {n}...\r\n"
            ),
            6 => format!("Get:{n} bookworm/main amd64 libfoo{n} amd64 1.2.{n}-1+deb12u1 [{n} kB]\r\n"),
            7 => format!("{:>80}\r\n", format!("a line as wide as the terminal {n}")),
            8 if n % 50_000 < 12 => format!("node-{:06x} login: \r\n", n % 0xff_ffff),
            _ => format!(
                "Setting up package-with-a-name-{n} (1.0-{}) and some further words about it ...\r\n",
                n % 77
            ),
        };
        log.extend_from_slice(text.as_bytes());
    }
    log
}

/// A progress bar that overwrites its line.
fn progress() -> String {
    let bar = |tenth: usize| format!("\rcopying: {:3}% [{:10}]", tenth * 10, "#".repeat(tenth));
    (0..=10).map(bar).collect::<Vec<_>>().concat() + "\r\n"
}
