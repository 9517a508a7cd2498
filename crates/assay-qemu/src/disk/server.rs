//! The process behind a served disk: answers QEMU out of the image file, as the disk's rules say.
//!
//! It is a process of its own because a machine outlives the program that switched it on. It ends when its last
//! client has gone, which is when QEMU has. The rules are looked at before every request, so that a disk begins to
//! fail at the moment at which its rules are replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader},
    net::Shutdown,
    os::unix::{
        fs::{FileExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    DiskRule, MediumError, Rules, Struck,
    protocol::{Answer, Command, LONGEST_REQUEST, Request, handshake, reply, request},
};
use crate::{QemuError, VmFolder, error::io_error};

/// Serves the disk `id` of the machine whose state is in `folder` until nobody wants it any more.
///
/// # Errors
/// [`QemuError::Io`] when there is no image or the socket cannot be made.
pub fn serve_disk(folder: &VmFolder, id: &str) -> Result<(), QemuError> {
    let path = folder.disk(id);
    let image = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("opening", &path))?;
    let size = image.metadata().map_err(io_error("reading", &path))?.len();
    let socket = folder.disk_socket(id);
    let _ = fs::remove_file(&socket);
    let struck_file = folder.disk_struck(id);
    Struck::default().write(&struck_file).map_err(io_error("writing", &struck_file))?;
    let listener = UnixListener::bind(&socket).map_err(io_error("listening on", &socket))?;
    let disk = Arc::new(Disk {
        image,
        size,
        rules_file: folder.disk_rules(id),
        state: Mutex::default(),
        arm: Mutex::default(),
        struck_file,
        struck: Mutex::default(),
    });
    let ended = Arc::new(Mutex::new(0_usize));
    for stream in listener.incoming() {
        let stream = stream.map_err(io_error("accepting on", &socket))?;
        let (disk, ended, wake) = (Arc::clone(&disk), Arc::clone(&ended), socket.clone());
        {
            let mut open = ended.lock().unwrap_or_else(PoisonError::into_inner);
            if *open == usize::MAX {
                break;
            }
            *open += 1;
        }
        thread::spawn(move || {
            if let Err(error) = disk.serve(&stream) {
                eprintln!("disk {}: {error}", disk.rules_file.display());
            }
            let _ = stream.shutdown(Shutdown::Both);
            let mut open = ended.lock().unwrap_or_else(PoisonError::into_inner);
            *open -= 1;
            if *open == 0 {
                // The last one turns the light off: a connection of our own ends the loop.
                *open = usize::MAX;
                let _ = UnixStream::connect(wake);
            }
        });
    }
    let _ = fs::remove_file(&socket);
    Ok(())
}

struct Disk {
    image: File,
    size: u64,
    rules_file: PathBuf,
    state: Mutex<State>,
    /// Slow requests wait for each other, as they do for a disk's arm.
    arm: Mutex<()>,
    struck_file: PathBuf,
    struck: Mutex<Struck>,
}

/// Why a request was not done.
enum Failure {
    /// The rules say so.
    Rule(MediumError),
    /// The image could not be read or written: that is no fault that anybody ordered.
    Host(io::Error),
}

impl From<MediumError> for Failure {
    fn from(error: MediumError) -> Self {
        Self::Rule(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

#[derive(Default)]
struct State {
    rules: Arc<Rules>,
    /// What the rules file was when it was read.
    seen: Option<(u64, i64, i64)>,
    stalled_until: Option<Instant>,
}

/// What the rules of this moment mean for one request.
struct Now {
    rules: Arc<Rules>,
    wait_until: Option<Instant>,
    delay: Duration,
}

impl Disk {
    fn serve(self: &Arc<Self>, stream: &UnixStream) -> io::Result<()> {
        let mut input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        // The handshake is answered before anything else is sent, so the buffer never holds what is not ours.
        if !handshake(&mut Both { input: &mut input, output: stream }, self.size)? {
            return Ok(());
        }
        let output = Arc::new(Mutex::new(stream.try_clone()?));
        while let Some(request) = request(&mut input)? {
            if request.command == Command::Disconnect {
                break;
            }
            let now = self.now(&request)?;
            if now.wait_until.is_none() && now.delay.is_zero() {
                self.answer(&request, &now.rules, &output)?;
                continue;
            }
            // Others must not wait for this one.
            let (disk, output) = (Arc::clone(self), Arc::clone(&output));
            thread::spawn(move || {
                if let Some(until) = now.wait_until {
                    thread::sleep(until.saturating_duration_since(Instant::now()));
                }
                if !now.delay.is_zero() {
                    let _arm = disk.arm.lock().unwrap_or_else(PoisonError::into_inner);
                    thread::sleep(now.delay);
                }
                // A client that has gone meanwhile needs no answer.
                let _ = disk.answer(&request, &now.rules, &output);
            });
        }
        Ok(())
    }

    fn now(&self, request: &Request) -> io::Result<Now> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match fs::metadata(&self.rules_file) {
            Ok(file) => Some((file.ino(), file.mtime(), file.mtime_nsec())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if file != state.seen {
            let rules = if file.is_some() { read_rules(&self.rules_file)? } else { Rules::default() };
            state.stalled_until = rules.stall().map(|span| Instant::now() + span);
            state.rules = Arc::new(rules);
            state.seen = file;
        }
        let wait_until = state.stalled_until.filter(|until| *until > Instant::now());
        let delay = match request.command {
            Command::Read | Command::Write(_) => state.rules.delay(request.offset, request.length.into()),
            _ => Duration::ZERO,
        };
        Ok(Now { rules: Arc::clone(&state.rules), wait_until, delay })
    }

    fn answer(&self, request: &Request, rules: &Rules, output: &Mutex<UnixStream>) -> io::Result<()> {
        let (answer, data) = self.perform(request, rules);
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        reply(&mut *output, request.cookie, answer, &data)
    }

    fn perform(&self, request: &Request, rules: &Rules) -> (Answer, Vec<u8>) {
        let (at, length) = (request.offset, u64::from(request.length));
        let inside = at.checked_add(length).is_some_and(|end| end <= self.size);
        let short = request.length <= LONGEST_REQUEST;
        match &request.command {
            Command::Flush => {}
            // What is trimmed need not read as zero, so there is nothing to do.
            Command::Trim if inside => return (Answer::Ok, Vec::new()),
            Command::Read | Command::Write(_) if inside && short => {}
            Command::WriteZeroes if inside => {}
            _ => return (Answer::Invalid, Vec::new()),
        }
        let done = match &request.command {
            Command::Write(data) => self.write(rules, at, data).map(|()| Vec::new()),
            Command::WriteZeroes => self.zero(rules, at, length).map(|()| Vec::new()),
            Command::Flush => rules.flush().map(|()| Vec::new()).map_err(Failure::from),
            _ => self.read(rules, at, length),
        };
        match done {
            Ok(data) => (Answer::Ok, data),
            Err(Failure::Host(error)) => {
                eprintln!("disk {}: {error}", self.rules_file.display());
                (Answer::Io, Vec::new())
            }
            Err(Failure::Rule(error)) => {
                self.strike(&request.command);
                let answer = match error {
                    MediumError::Io => Answer::Io,
                    MediumError::NoSpace => Answer::NoSpace,
                };
                (answer, Vec::new())
            }
        }
    }

    fn strike(&self, command: &Command) {
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            Command::Read => struck.reads += 1,
            Command::Flush => struck.flushes += 1,
            _ => struck.writes += 1,
        }
        if let Err(error) = struck.write(&self.struck_file) {
            eprintln!("{}: {error}", self.struck_file.display());
        }
    }

    fn read(&self, rules: &Rules, at: u64, length: u64) -> Result<Vec<u8>, Failure> {
        let mut data = vec![0; length as usize];
        for piece in rules.read(at, length)? {
            self.image.read_exact_at(&mut data[piece.data], piece.at)?;
        }
        rules.corrupt(at, &mut data);
        Ok(data)
    }

    fn write(&self, rules: &Rules, at: u64, data: &[u8]) -> Result<(), Failure> {
        for piece in rules.write(at, data.len() as u64)? {
            self.image.write_all_at(&data[piece.data], piece.at)?;
        }
        Ok(())
    }

    fn zero(&self, rules: &Rules, at: u64, length: u64) -> Result<(), Failure> {
        const CHUNK: u64 = 1 << 20;
        let zeroes = vec![0; CHUNK.min(length) as usize];
        let mut done = 0;
        while done < length {
            let chunk = CHUNK.min(length - done);
            self.write(rules, at + done, &zeroes[..chunk as usize])?;
            done += chunk;
        }
        Ok(())
    }
}

/// A half that is read through a buffer and one that is written straight.
struct Both<'a> {
    input: &'a mut BufReader<UnixStream>,
    output: &'a UnixStream,
}

impl io::Read for Both<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl io::Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.output, bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_rules(path: &Path) -> io::Result<Rules> {
    let rules: Vec<DiskRule> = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
    Ok(Rules(rules))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::write_rules;
    use super::*;

    const SIZE: u64 = 1 << 20;

    /// A client that knows the protocol by heart.
    struct Client(UnixStream);

    impl Client {
        fn connect(path: &Path) -> Self {
            let until = Instant::now() + Duration::from_secs(10);
            let stream = loop {
                match UnixStream::connect(path) {
                    Ok(stream) => break stream,
                    Err(error) => assert!(Instant::now() < until, "the server listens in time: {error}"),
                }
                thread::yield_now();
            };
            let mut client = Self(stream);
            client.take(18);
            let go = [&3_u32.to_be_bytes()[..], b"IHAVEOPT", &7_u32.to_be_bytes(), &6_u32.to_be_bytes()];
            client.0.write_all(&[go.concat(), vec![0; 6]].concat()).expect("sent");
            client.take(20 + 12 + 20);
            client
        }

        fn take(&mut self, length: usize) -> Vec<u8> {
            let mut bytes = vec![0; length];
            self.0.read_exact(&mut bytes).expect("an answer");
            bytes
        }

        fn ask(&mut self, kind: u8, at: u64, length: u32, data: &[u8]) -> u32 {
            let head = [&0x2560_9513_u32.to_be_bytes()[..], &[0, 0, 0, kind], &[9; 8], &at.to_be_bytes()];
            self.0.write_all(&[&head.concat()[..], &length.to_be_bytes(), data].concat()).expect("sent");
            let answer = self.take(16);
            u32::from_be_bytes([answer[4], answer[5], answer[6], answer[7]])
        }

        fn write(&mut self, at: u64, data: &[u8]) -> u32 {
            self.ask(1, at, data.len() as u32, data)
        }

        fn read(&mut self, at: u64, length: u32) -> Result<Vec<u8>, u32> {
            match self.ask(0, at, length, &[]) {
                0 => Ok(self.take(length as usize)),
                error => Err(error),
            }
        }
    }

    #[test]
    fn a_disk_obeys_the_rules_of_the_moment_and_ends_with_its_client() {
        let folder = tempfile::tempdir().expect("a folder");
        let vm = VmFolder::new(folder.path());
        File::create(vm.disk("d")).expect("made").set_len(SIZE).expect("sized");
        let (machine, rules) = (vm.clone(), vm.disk_rules("d"));
        let server = thread::spawn(move || serve_disk(&machine, "d"));
        let mut client = Client::connect(&vm.disk_socket("d"));

        let text: Vec<u8> = (0..1024_u32).map(|byte| byte as u8).collect();
        assert_eq!(client.write(512, &text), 0);
        assert_eq!(client.read(512, 1024), Ok(text.clone()));
        assert_eq!(client.read(SIZE - 512, 1024), Err(22), "behind the end");

        write_rules(&rules, &[DiskRule::Unreadable { sector: 2, count: 1 }]).expect("written");
        assert_eq!(client.read(512, 1024), Err(5));
        assert_eq!(client.read(512, 512), Ok(text[..512].to_vec()));
        let struck = Struck::read(&vm.disk_struck("d")).expect("written down");
        assert_eq!(struck, Struck { reads: 1, ..Struck::default() }, "behind the end was our own mistake");

        write_rules(&rules, &[DiskRule::Full { sector: 2 }]).expect("written");
        assert_eq!(client.write(1024, &[1; 512]), 28);
        write_rules(&rules, &[DiskRule::Gone]).expect("written");
        assert_eq!(client.ask(3, 0, 0, &[]), 5, "a flush");
        let struck = Struck::read(&vm.disk_struck("d")).expect("written down");
        assert_eq!(struck, Struck { reads: 1, writes: 1, flushes: 1 });

        write_rules(&rules, &[DiskRule::Corrupt { sector: 1, count: 1 }]).expect("written");
        let wrong = client.read(512, 1024).expect("good status");
        assert_eq!(wrong.iter().zip(&text).filter(|(a, b)| a != b).count(), 1);

        write_rules(&rules, &[DiskRule::Lost { sector: 1, count: 1 }]).expect("written");
        assert_eq!(client.write(512, &[0xee; 1024]), 0);
        let kept = client.read(512, 1024).expect("read");
        assert_eq!((&kept[..512], &kept[512..]), (&text[..512], &[0xee; 512][..]));

        write_rules(&rules, &[DiskRule::Stall { ms: 300 }]).expect("written");
        let begun = Instant::now();
        client.read(0, 512).expect("read");
        assert!(begun.elapsed() >= Duration::from_millis(295), "{:?}", begun.elapsed());
        let begun = Instant::now();
        client.read(0, 512).expect("read");
        assert!(begun.elapsed() < Duration::from_millis(250), "only once: {:?}", begun.elapsed());

        fs::remove_file(&rules).expect("removed");
        assert_eq!(client.ask(6, 512, 512, &[]), 0, "zeroes");
        assert_eq!(client.read(512, 512), Ok(vec![0; 512]));
        drop(client);
        server.join().expect("no panic").expect("ended well");
        assert!(!vm.disk_socket("d").exists());
    }
}
