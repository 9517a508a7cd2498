//! Tells whether a machine that went quiet waits for an answer.
//!
//! Asked only after some time of quiet, so the patterns may be wide: a line that looks like a prompt and is not one
//! is soon followed by more.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dialog;

/// What a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// A command, from a shell of the system.
    Shell,
    /// A command, from a shell that opens when a boot fails: initramfs, dracut, emergency.
    RescueShell,
    /// A command, from a bootloader: GRUB, SYSLINUX, U-Boot, iPXE.
    Bootloader,
    /// A command, from the firmware: the EFI shell.
    Firmware,
    /// A user's name.
    Login,
    /// A password or a passphrase.
    Password,
    /// Any key, or Enter.
    Key,
    /// Yes or no.
    Confirm,
    /// One of several, or some value.
    Choice,
    /// A screen with buttons.
    Dialog,
}

impl PromptKind {
    /// It is a shell's.
    pub fn is_shell(self) -> bool {
        matches!(self, Self::Shell | Self::RescueShell | Self::Bootloader | Self::Firmware)
    }
}

/// The kinds with their patterns; the first that matches counts. The flag: also as a finished line, if it is the last.
static PROMPTS: &[(PromptKind, bool, &str)] = {
    use PromptKind::{
        Bootloader, Choice, Confirm, Dialog, Firmware, Key, Login, Password, RescueShell, Shell,
    };
    &[
        (Bootloader, false, r"^(?:grub rescue|grub|iPXE)> *$"),
        (Bootloader, false, r"^(?:boot:|=>|U-Boot>) *$"),
        (Firmware, false, r"^(?:Shell|FS[0-9]+:\\.*|BLK[0-9]+:)> *$"),
        (
            RescueShell,
            false,
            r"^(?:\(initramfs\)|(?:dracut|switch_root|initqueue|emergency):\S*#|sh-[0-9.]+#) *$",
        ),
        (Login, false, r"(?:^|\s)login: *$"),
        (
            Password,
            false,
            r"(?i)(?:password|passphrase|passcode|\bPIN\b)[^:?]{0,80}[:?] *(?:\(press TAB for no echo\) *)?$",
        ),
        (
            RescueShell,
            true,
            r"(?i)^(?:or )?(?:press enter for (?:maintenance|emergency shell)|give root password for maintenance)",
        ),
        (
            Key,
            true,
            r"(?i)\b(?:press|hit|strike)\b.{0,20}\b(?:any key|a key|enter|return|<enter>|<return>|\[enter\])(?:\b|$)",
        ),
        (
            Confirm,
            true,
            r"(?i)[\[(]\s*(?:y(?:es)?\s*[/|]\s*n(?:o)?(?:\s*[/|].{0,12})?|n(?:o)?\s*[/|]\s*y(?:es)?)\s*[\])]\s*[?:>]?\s*$",
        ),
        (Confirm, false, r"(?i)\b(?:continue|proceed|sure|confirm|overwrite|erase|wipe)\b.{0,60}\? *$"),
        // The text frontend of Debian's installer.
        (Choice, true, r"^Prompt: .*> *$"),
        (Choice, true, r"(?i)^\s*(?:please )?(?:select|choose|enter|type|specify|which)\b.{0,100}[:?>] *$"),
        (
            Choice,
            false,
            r"(?i)\b(?:option|choice|selection|select one|answer|username|user name|hostname|host name)\b.{0,40}[:?>] *$",
        ),
        // newt and dialog: buttons, or the help line below them.
        (
            Dialog,
            true,
            r"(?i)<\s*(?:ok|yes|no|cancel|continue|go back|back|next|finish|done)\s*>|\[\s*(?:OK|Yes|Cancel|Continue|Go Back)\s*\]\s*$",
        ),
        (
            Dialog,
            true,
            r"(?i)<tab>(?:/<alt-tab>)? (?:moves|between elements)|<enter> activates|arrow keys.{0,40}(?:select|highlight|navigat)|use the .{0,3}(?:↑|\^).{0,20}keys",
        ),
        (
            Shell,
            false,
            r"^(?:\S+@\S+[: ]?\S*|\[\S+@\S+ \S+\]|\[\S+@\S+:\S*\]|(?:ba|da|a|z)?sh(?:-[0-9.]+)?|[~/]\S*|<?[A-Za-z0-9._-]{1,40}>?)? ?[#$%] *$",
        ),
        (Choice, false, r"\? *$"),
    ]
};

/// The status line of GNU screen, in which Debian's installer runs on a serial port: it is drawn after the prompt, again each
/// minute.
static STATUS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\[ *\(\d+\*\w[^\]]*\]\[[^\]]*\]\s*$").expect("the pattern is tested"));

/// newt's line at the lower edge, which says what the keys do.
static KEYS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)^\s*<tab>.*<(?:space|enter)>").expect("the pattern is tested"));

static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(PROMPTS.iter().map(|(_, _, pattern)| *pattern)).expect("the patterns are tested")
});

/// Systemd shows what it waits for in lines that it redraws; they are not prompts.
static WORKING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\[[ *]{6}\]|^A (?:start|stop) job is running").expect("the pattern is tested")
});

/// GRUB has left its menu.
static BOOTING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:Booting [`']|Booting a command list|EFI stub: )").expect("the pattern is tested")
});

/// The longest line that is a prompt, in bytes.
const LONGEST: usize = 400;

/// How many finished lines above the last are looked at for a dialog.
pub(crate) const DIALOG_LINES: usize = 8;

/// How many lines above a prompt are looked at for what it belongs to.
pub(crate) const QUESTION_LINES: usize = 40;

/// What the machine waits for: `open` is the unfinished line, `last` the finished lines before it, latest first.
pub(crate) fn waits_for<'a>(open: &'a str, last: &[&'a str]) -> Option<(PromptKind, &'a str)> {
    if !open.trim().is_empty()
        && let Some(kind) = classify(open.trim_start(), true)
    {
        return Some((kind, open.trim()));
    }
    if open.trim().is_empty()
        && let Some(line) = last.first()
        && let Some(kind) = classify(line.trim_start(), false)
    {
        return Some((kind, line.trim()));
    }
    let dialog = |line: &&str| classify(line.trim_start(), false) == Some(PromptKind::Dialog);
    let at = last.iter().take(DIALOG_LINES).position(dialog)?;
    // On a serial port a boot menu still stands above what its entry says.
    let is_over = last[..at].iter().any(|line| BOOTING.is_match(line)) || BOOTING.is_match(open);
    (!is_over).then(|| (PromptKind::Dialog, last[at].trim()))
}

/// What a prompt of Debian's installer in its text form asks, which stands above it: a title with a line of dashes below,
/// then the text, then `Prompt: '?' for help>` or `[Press enter to continue]`, which are the same for every question.
/// `last` are the finished lines, latest first. `None` for any other prompt.
pub(crate) fn question(prompt: &str, last: &[&str]) -> Option<String> {
    if !prompt.starts_with("Prompt: ") && prompt != "[Press enter to continue]" {
        return None;
    }
    let is_dashes = |line: &&str| line.len() >= 4 && line.bytes().all(|byte| byte == b'-');
    let last = &last[..last.len().min(QUESTION_LINES)];
    let dashes = last.iter().map(|line| line.trim()).position(|line| is_dashes(&line))?;
    let title = last.get(dashes + 1)?.trim();
    let mut paragraphs: Vec<String> = Vec::new();
    let mut begins = true;
    for line in last[..dashes].iter().rev().map(|line| line.trim()) {
        match paragraphs.last_mut() {
            _ if line.is_empty() || line == prompt => {}
            Some(text) if !begins => {
                text.push(' ');
                text.push_str(line);
            }
            _ => paragraphs.push(line.to_owned()),
        }
        // Error messages have a heading of their own.
        begins = line.is_empty() || line.starts_with("!! ");
    }
    // What is to be entered is named on a line of its own, below the text without a space between.
    if let Some(field) =
        last[..dashes].iter().map(|line| line.trim()).find(|line| !line.is_empty() && *line != prompt)
        && field.ends_with([':', '?'])
        && let Some(text) = paragraphs.last_mut()
        && text.len() > field.len()
        && text.ends_with(field)
    {
        text.truncate(text.len() - field.len());
        text.truncate(text.trim_end().len());
        paragraphs.push(field.to_owned());
    }
    Some(dialog::told(title, &paragraphs, prompt))
}

/// Whether a line is a terminal multiplexer's own.
pub(crate) fn is_status(line: &str) -> bool {
    STATUS.is_match(line)
}

/// Whether a prompt is no more than the line that says what the keys do.
pub(crate) fn explains_keys(prompt: &str) -> bool {
    KEYS.is_match(prompt)
}

fn classify(line: &str, open: bool) -> Option<PromptKind> {
    if line.len() > LONGEST || WORKING.is_match(line) {
        return None;
    }
    let first = SET.matches(line).into_iter().find(|&index| open || PROMPTS[index].1)?;
    Some(PROMPTS[first].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_firmware_bootloaders_installers_and_shells() {
        use PromptKind::{
            Bootloader, Choice, Confirm, Dialog, Firmware, Key, Login, Password, RescueShell, Shell,
        };
        for (prompt, kind) in [
            ("grub> ", Bootloader),
            ("grub rescue> ", Bootloader),
            ("boot: ", Bootloader),
            ("iPXE> ", Bootloader),
            ("=> ", Bootloader),
            ("Shell> ", Firmware),
            (r"FS0:\> ", Firmware),
            ("(initramfs) ", RescueShell),
            ("dracut:/# ", RescueShell),
            ("switch_root:/root# ", RescueShell),
            ("node-5b2dfa login: ", Login),
            ("Password: ", Password),
            ("[sudo] password for admin: ", Password),
            (
                "Please enter passphrase for disk disk-main-root (cryptroot): (press TAB for no echo) ",
                Password,
            ),
            ("Press Enter for emergency shell or wait 5 minutes 0 seconds for reboot.", RescueShell),
            ("Give root password for maintenance", RescueShell),
            ("Press any key to continue...", Key),
            ("Press ENTER to continue", Key),
            ("Hit [Enter] ", Key),
            ("Do you want to continue? [Y/n] ", Confirm),
            ("Overwrite existing data (yes/no)? ", Confirm),
            ("Erase all disks [y/N]: ", Confirm),
            ("Are you sure you want to proceed? ", Confirm),
            ("Prompt: '?' for help, default=1> ", Choice),
            ("Select an option: ", Choice),
            ("Enter the device to install to: ", Choice),
            ("Your choice [1-4]: ", Choice),
            ("What is the answer? ", Choice),
            ("     <Go Back>                                      <Yes>      <No>     ", Dialog),
            ("<Tab> moves; <Space> selects; <Enter> activates buttons", Dialog),
            ("  <Tab>/<Alt-Tab> between elements   |  <Space> selects   |  <F12> next screen", Dialog),
            ("# ", Shell),
            ("~ # ", Shell),
            ("/ # ", Shell),
            ("$ ", Shell),
            ("root@debian:~# ", Shell),
            ("[root@host ~]# ", Shell),
            ("[nixos@nixos:~]$ ", Shell),
            ("bash-5.1# ", Shell),
            ("host# ", Shell),
        ] {
            assert_eq!(waits_for(prompt, &[]), Some((kind, prompt.trim())), "{prompt}");
        }
    }

    #[test]
    fn work_in_progress_is_not_a_prompt() {
        for line in [
            "Loading initial ramdisk ... ",
            "Unpacking linux-image-6.1.0-18-amd64 (6.1.76-1) ... ",
            "Progress: [ 45%] [##########..........] ",
            "[  *** ] A start job is running for Wait for Network (12s / no limit)",
            "copying path '/nix/store/abc-linux' from 'https://cache'... ",
            "Downloading: 45 % ",
            "50 of 100 (50%)",
            "Setting up password-store (1.7.4-6) ...",
            "Get:1 bookworm InRelease [151 kB]",
            "",
        ] {
            assert_eq!(waits_for(line, &[]), None, "{line}");
        }
    }

    #[test]
    fn a_finished_line_is_a_prompt_only_if_it_asks_clearly_and_nothing_follows() {
        assert!(waits_for("", &["Press any key to continue...", "x"]).is_some());
        assert!(waits_for("", &["x", "Press any key to continue..."]).is_none());
        assert!(waits_for("", &["# "]).is_none(), "a comment");
        assert_eq!(
            waits_for("", &["", "   <Yes>    <No>", "Format the disk?"]),
            Some((PromptKind::Dialog, "<Yes>    <No>"))
        );
    }

    #[test]
    fn a_boot_menu_is_no_prompt_any_more_once_an_entry_boots() {
        let menu =
            ["      Press enter to boot the selected OS", "      Use the ^ and v keys to select an entry."];
        assert!(waits_for("", &menu).is_some());
        // GRUB under UEFI without a video module, and a kernel that is quiet from there on.
        let booting = [
            "Booting in blind mode",
            "error: no suitable video mode found.",
            "  Booting `Install'",
            menu[0],
            menu[1],
        ];
        assert_eq!(waits_for("", &booting), None);
        assert_eq!(waits_for("  Booting `Install'", &menu), None);
        // What only speaks of booting is not it.
        assert!(waits_for("", &["Booting takes a minute.", menu[1]]).is_some());
    }

    #[test]
    fn a_multiplexers_status_line_is_not_the_installers() {
        let drawn = "[           (1*installer)  2 shell  3 shell  4- log           ][ Nov 21 23:34 ]";
        assert!(is_status(drawn));
        for line in
            ["[ OK ] Started (1*) foo", "[Press enter to continue]", "[  12.3] usb (1*2)", "[ (1 of 2) ][ ]"]
        {
            assert!(!is_status(line), "{line}");
        }
    }

    #[test]
    fn a_question_in_plain_lines_has_a_title_a_text_and_a_field() {
        let text = |prompt: &str, above: &str| question(prompt, &above.lines().rev().collect::<Vec<_>>());
        let asked = "Partition disks\n---------------\n\nWrite the changes to disks?\n  1: Yes  2: No [*]\n";
        assert_eq!(
            text("Prompt: '?' for help, default=2> ", asked).as_deref(),
            Some(
                "Partition disks: Write the changes to disks? 1: Yes  2: No [*] Prompt: '?' for help, default=2>"
            )
        );
        // No title, no question: whoever draws no line of dashes is not Debian's installer.
        assert_eq!(text("Prompt: '?' for help> ", "Partition disks\n\nWhat now?"), None);
        assert_eq!(text("[Press enter to continue]", "----\n"), None, "dashes and no title");
        assert_eq!(text("Password: ", asked), None);
        let endless = "x".repeat(100_000);
        let told = text("Prompt: > ", &format!("{endless}\n----\n{endless}")).unwrap_or_default();
        assert!(told.len() < 101_000);
    }
}
