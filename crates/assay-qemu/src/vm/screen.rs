//! A machine's screen: told when it changes, read exactly, kept as pictures.
//!
//! QEMU has no event for a change of the screen, but its VNC server answers a request for an *incremental* update when
//! there is one, and not before. So one viewer with one request open is a notification. The picture itself is read
//! otherwise: QEMU writes it. It is drawn with a font that is known, so the text on it can be read exactly; the video
//! memory of a text mode could be read as well, but not where in it the screen begins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::run::{Vm, VmEvent};
use crate::QemuError;

/// The most often that a changing screen is told of.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// The largest picture that is read, in pixels: a guest chooses the size.
const MAX_PIXELS: usize = 8192 * 8192;

/// A picture: three bytes (red, green, blue) a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Rows from the top.
    pub rgb: Vec<u8>,
}

impl Vm {
    /// What is on the screen now.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU does not answer, or when what it writes is no picture.
    pub async fn screen(&self) -> Result<Pixels, QemuError> {
        let file = self.scratch("screen.ppm");
        self.qmp().execute("screendump", json!({ "filename": file.display().to_string() })).await?;
        let bytes = take(&file)?;
        ppm(&bytes).ok_or_else(|| QemuError::Screen {
            problem: format!("QEMU wrote {} bytes that are no picture", bytes.len()),
        })
    }

    /// The screen as a PNG picture.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU does not answer.
    pub async fn picture(&self) -> Result<Vec<u8>, QemuError> {
        let file = self.scratch("screen.png");
        self.qmp().screendump(&file).await?;
        let bytes = take(&file)?;
        if bytes.starts_with(b"\x89PNG") { Ok(bytes) } else { Err(QemuError::NoScreenshot { path: file }) }
    }
}

/// The font that a PC's text mode is drawn with, 256 glyphs of 8 by 16 pixels: out of the video BIOS that QEMU gives its
/// machines. Linux draws its framebuffer console with the same one. None where no such BIOS is installed.
pub fn vga_font() -> Option<Vec<u8>> {
    const PLACES: [&str; 2] = ["/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/vgabios-stdvga.bin"];
    /// The first two glyphs: nothing, and a face.
    const BEGINS: [u8; 32] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81,
        0x81, 0x7e, 0, 0, 0, 0,
    ];
    PLACES.iter().find_map(|path| {
        let rom = std::fs::read(path).ok()?;
        let at = memchr::memmem::find(&rom, &BEGINS)?;
        Some(rom.get(at..at + 256 * 16)?.to_vec())
    })
}

fn take(file: &Path) -> Result<Vec<u8>, QemuError> {
    let bytes = std::fs::read(file).map_err(crate::error::io_error("reading", file))?;
    std::fs::remove_file(file).map_err(crate::error::io_error("removing", file))?;
    Ok(bytes)
}

/// Reads a binary PPM with 8 bits a colour, as QEMU writes it.
fn ppm(bytes: &[u8]) -> Option<Pixels> {
    let mut fields = Vec::new();
    let mut at = 0;
    while fields.len() < 4 {
        let rest = bytes.get(at..)?;
        let skip = rest.iter().position(|b| !b.is_ascii_whitespace())?;
        let word = rest.get(skip..)?;
        let length = word.iter().take(16).position(u8::is_ascii_whitespace)?;
        fields.push(std::str::from_utf8(&word[..length]).ok()?);
        at += skip + length;
    }
    let [magic, width, height, depth] = fields[..] else { return None };
    let (width, height): (usize, usize) = (width.parse().ok()?, height.parse().ok()?);
    if magic != "P6" || depth != "255" || width.checked_mul(height)? > MAX_PIXELS {
        return None;
    }
    // One white space ends the header.
    let rgb = bytes.get(at + 1..at + 1 + width * height * 3)?.to_vec();
    Some(Pixels { width, height, rgb })
}

/// Tells of changes of the screen until QEMU ends.
pub(super) async fn watch(socket: PathBuf, to: mpsc::Sender<(Instant, VmEvent)>) {
    if let Err(problem) = follow(&socket, &to).await {
        tracing::debug!(%problem, "the screen is not watched any more");
    }
}

async fn follow(socket: &Path, to: &mpsc::Sender<(Instant, VmEvent)>) -> std::io::Result<()> {
    let mut viewer = Viewer::connect(socket).await?;
    loop {
        viewer.changed().await?;
        let at = Instant::now();
        if to.send((at, VmEvent::Screen)).await.is_err() {
            return Ok(());
        }
        sleep_until(at + TOLD_EVERY).await;
    }
}

/// The viewer's end of VNC (RFC 6143), as far as it takes to be told of changes.
struct Viewer {
    stream: UnixStream,
    width: u16,
    height: u16,
}

/// Pseudo-encoding: the screen may change its size.
const DESKTOP_SIZE: i32 = -223;
const RAW: i32 = 0;

impl Viewer {
    async fn connect(socket: &Path) -> std::io::Result<Self> {
        let mut stream = UnixStream::connect(socket).await?;
        let mut version = [0; 12];
        stream.read_exact(&mut version).await?;
        stream.write_all(b"RFB 003.008\n").await?;
        let count = stream.read_u8().await?;
        let mut kinds = vec![0; usize::from(count)];
        stream.read_exact(&mut kinds).await?;
        if !kinds.contains(&1) {
            return Err(std::io::Error::other("the screen wants a password"));
        }
        stream.write_all(&[1]).await?;
        if stream.read_u32().await? != 0 {
            return Err(std::io::Error::other("the screen refuses"));
        }
        stream.write_all(&[1]).await?;
        let (width, height) = (stream.read_u16().await?, stream.read_u16().await?);
        let mut format = [0; 16];
        stream.read_exact(&mut format).await?;
        let name = stream.read_u32().await?;
        skip(&mut stream, u64::from(name)).await?;
        // One byte a pixel: nobody looks at them.
        let mut hello = vec![0, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0];
        hello.extend([2, 0, 0, 2]);
        hello.extend(RAW.to_be_bytes());
        hello.extend(DESKTOP_SIZE.to_be_bytes());
        stream.write_all(&hello).await?;
        Ok(Self { stream, width, height })
    }

    /// Returns at the next change.
    async fn changed(&mut self) -> std::io::Result<()> {
        let mut request = vec![3, 1, 0, 0, 0, 0];
        request.extend(self.width.to_be_bytes());
        request.extend(self.height.to_be_bytes());
        self.stream.write_all(&request).await?;
        loop {
            match self.stream.read_u8().await? {
                0 => return self.update().await,
                // A bell; a text for the clipboard.
                2 => {}
                3 => {
                    skip(&mut self.stream, 3).await?;
                    let length = self.stream.read_u32().await?;
                    skip(&mut self.stream, u64::from(length)).await?;
                }
                other => return Err(std::io::Error::other(format!("message {other} was not asked for"))),
            }
        }
    }

    async fn update(&mut self) -> std::io::Result<()> {
        skip(&mut self.stream, 1).await?;
        let count = self.stream.read_u16().await?;
        for _ in 0..count {
            skip(&mut self.stream, 4).await?;
            let (width, height) = (self.stream.read_u16().await?, self.stream.read_u16().await?);
            match self.stream.read_i32().await? {
                RAW => skip(&mut self.stream, u64::from(width) * u64::from(height)).await?,
                DESKTOP_SIZE => (self.width, self.height) = (width, height),
                other => return Err(std::io::Error::other(format!("encoding {other} was not asked for"))),
            }
        }
        Ok(())
    }
}

async fn skip(stream: &mut UnixStream, bytes: u64) -> std::io::Result<()> {
    let skipped = tokio::io::copy(&mut stream.take(bytes), &mut tokio::io::sink()).await?;
    if skipped == bytes { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::{Pixels, ppm};

    #[test]
    fn a_picture_reads_and_a_cut_one_does_not() {
        let picture = Pixels { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(ppm(b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06"), Some(picture));
        for bad in [
            &b"P6\n2 1\n255\n\x01\x02\x03\x04\x05"[..],
            b"P5\n2 1\n255\n\x01\x02\x03\x04\x05\x06",
            b"P6\n99999999999 99999999999\n255\n",
            b"P6\n2 1\n",
            b"",
        ] {
            assert_eq!(ppm(bad), None, "{bad:?}");
        }
    }
}
