//! IPMI over the network, through `ipmitool`.
//!
//! Its exit code says little and its words say much: a wrong password, a wrong user and a dead cable are all exit
//! code 1, and data may come with warnings (`Unable to Get Channel Cipher Suites`). So what it prints is read line
//! by line, with `-v` for the reasons, and only a line that is an answer counts as one.
//!
//! The password travels in the environment (`-E`), which only root can read, and never on the command line.

use std::time::Duration;

use assay_model::text;
use assay_process::{Cmd, Output, ProcessError, Size, Terminal, TerminalKind};

use super::{Ask, BootMode, Credential, IpmiSettings, PowerError, PowerState, Privilege, Site, settings};

/// IPMI 2.0 has room for this much.
const LONGEST_PASSWORD: usize = 20;
const LONGEST_USER: usize = 16;
/// Packets are sent again this often.
const RETRIES: u32 = 2;
/// A conversation is about ten packets long.
const PACKETS: u32 = 12;

/// One BMC.
#[derive(Debug)]
pub(super) struct Ipmi {
    settings: IpmiSettings,
    credential: Credential,
    site: Site,
}

impl Ipmi {
    pub(super) fn new(
        settings: IpmiSettings,
        credential: Credential,
        site: Site,
    ) -> Result<Self, PowerError> {
        let (user, password) = (&credential.user, credential.password.text());
        if user.len() > LONGEST_USER || user.chars().any(char::is_control) {
            return settings::bad("user", user, "IPMI users have at most 16 bytes");
        }
        if password.len() > LONGEST_PASSWORD || password.contains('\0') {
            return settings::bad("password", &"…", "IPMI 2.0 passwords have at most 20 bytes");
        }
        Ok(Self { settings, credential, site })
    }

    pub(super) fn name(&self) -> String {
        let IpmiSettings { address, port, .. } = &self.settings;
        let port = if *port == 623 { String::new() } else { format!(" port {port}") };
        format!("BMC {address}{port} (IPMI)")
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<Option<PowerState>, PowerError> {
        match ask {
            Ask::State => {
                let doing = "the power state";
                let output = self.tool(doing, &["chassis", "power", "status"]).await?;
                match state_in(&output.stdout_text()) {
                    Some(state) => Ok(Some(state)),
                    None => Err(self.failure(doing, &output)),
                }
            }
            Ask::Set(state) => {
                let (word, doing) = match state {
                    PowerState::On => ("on", "power on"),
                    PowerState::Off => ("off", "power off"),
                };
                let output = self.tool(doing, &["chassis", "power", word]).await?;
                let taken = output.success() && output.stdout_text().contains("Chassis Power Control:");
                if taken { Ok(None) } else { Err(self.failure(doing, &output)) }
            }
            Ask::NetbootNext => self.netboot_next().await.map(|()| None),
        }
    }

    async fn netboot_next(&self) -> Result<(), PowerError> {
        let doing = "boot from the network next";
        let mut order = vec!["chassis", "bootdev", "pxe"];
        if self.settings.firmware == Some(BootMode::Uefi) {
            order.push("options=efiboot");
        }
        let output = self.tool(doing, &order).await?;
        if !output.success() || !output.stdout_text().contains("Set Boot Device to pxe") {
            return Err(self.failure(doing, &output));
        }
        let output = self.tool(doing, &["chassis", "bootparam", "get", "5"]).await?;
        let text = output.stdout_text();
        let line = text.lines().find_map(|line| line.split_once("Boot Device Selector :"));
        match line {
            Some((_, device)) if device.contains("PXE") => Ok(()),
            Some((_, device)) => Err(PowerError::Refused {
                bmc: self.name(),
                doing,
                said: format!("it agreed, and yet the next boot is `{}`", text::clean(device)),
            }),
            None => Err(self.failure(doing, &output)),
        }
    }

    /// Serial over LAN. `ipmitool` wants a terminal to be put into raw mode, and looks for `~.` in what is typed.
    pub(super) async fn console(&self) -> Result<Terminal, PowerError> {
        // A session that nobody ended, ours from before a restart for one, would keep the next out. Without one, the
        // BMC says that there is none.
        let _ = self.tool("end serial over LAN", &["sol", "deactivate"]).await?;
        let activate = self.cmd().args(["sol", "activate"]);
        Ok(activate.spawn_terminal(Size { cols: 80, rows: 25 }, TerminalKind::Interactive).await?)
    }

    async fn tool(&self, doing: &'static str, order: &[&str]) -> Result<Output, PowerError> {
        let limit = Duration::from_secs((self.each_s() * (RETRIES + 1) * PACKETS).into());
        let output = self.cmd().args(order.iter().copied()).timeout(limit).max_output(64 * 1024).run().await;
        match output {
            Err(ProcessError::Timeout { after, .. }) => {
                let said = format!("it was not done after {after:?}");
                Err(PowerError::Slow { bmc: self.name(), doing, said })
            }
            other => Ok(other?),
        }
    }

    /// Seconds for each packet: a slow BMC gets them, and a dead one is found out within the limit.
    fn each_s(&self) -> u32 {
        (self.settings.timeout_s / 12).clamp(1, 5)
    }

    fn cmd(&self) -> Cmd {
        let IpmiSettings { address, port, privilege, cipher_suite, .. } = &self.settings;
        let privilege = match privilege {
            Privilege::Administrator => "ADMINISTRATOR",
            Privilege::Operator => "OPERATOR",
        };
        let mut cmd = Cmd::new("ipmitool")
            .args(["-v", "-I", "lanplus", "-E", "-H", address, "-p", &port.to_string()])
            .args(["-U", &self.credential.user, "-L", privilege])
            .args(["-N", &self.each_s().to_string(), "-R", &RETRIES.to_string()])
            .env("IPMI_PASSWORD", self.credential.password.text())
            .netns(self.site.netns.as_deref());
        if let Some(suite) = cipher_suite {
            cmd = cmd.args(["-C", &suite.to_string()]);
        }
        cmd
    }

    /// What a conversation without the wanted line means.
    fn failure(&self, doing: &'static str, output: &Output) -> PowerError {
        let said = format!("{}\n{}", output.stderr_text(), output.stdout_text());
        classify(&without_chatter(&said), &self.name(), doing, &self.credential.user)
    }
}

/// The state that `chassis power status` printed, whatever else it printed.
fn state_in(said: &str) -> Option<PowerState> {
    let mut words = said.lines().filter_map(|line| line.trim().strip_prefix("Chassis Power is "));
    match words.next()?.trim() {
        "on" => Some(PowerState::On),
        "off" => Some(PowerState::Off),
        _ => None,
    }
}

/// Leaves out what `-v` prints on the way: it looks into corners that most BMCs do not have, and says so.
fn without_chatter(said: &str) -> String {
    let chatter =
        ["Loading IANA", "Running Get ", "Invalid completion code received", "Discovered IPMB", "Get HPM.x "];
    let kept = said.lines().filter(|line| !chatter.iter().any(|start| line.starts_with(start)));
    kept.collect::<Vec<_>>().join("\n")
}

/// From ipmitool's words to a kind of trouble. The words are those of ipmitool 1.8.19.
fn classify(said: &str, bmc: &str, doing: &'static str, user: &str) -> PowerError {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let bmc = bmc.to_owned();
    let because = |said: &str| said.to_owned();
    if has(&["insufficient resources", "Insufficient resources", "Node busy", "Out of space"]) {
        return PowerError::Slow { bmc, doing, said: because("it says that it is busy") };
    }
    if has(&["unauthorized role", "unauthorized GUID", "Insufficient privilege", "privilege level"]) {
        let said =
            "the user may not do this; give it the operator or administrator privilege, or set `privilege`";
        return PowerError::Refused { bmc, doing, said: because(said) };
    }
    if has(&["unauthorized name"]) {
        return PowerError::WrongPassword {
            bmc,
            user: text::clean(user),
            said: because("it does not know that user"),
        };
    }
    if has(&[
        "HMAC is invalid",
        "RAKP 2 message indicates",
        "RAKP 4 message",
        "incorrect password",
        "Invalid user name",
    ]) {
        return PowerError::WrongPassword {
            bmc,
            user: text::clean(user),
            said: because("the password is wrong"),
        };
    }
    if has(&[
        "invalid authentication algorithm",
        "invalid integrity algorithm",
        "invalid confidentiality",
        "No matching cipher suite",
    ]) {
        let said = "it has no cipher suite in common; set `cipher_suite` to 17 or 3";
        return PowerError::Unsupported { bmc, doing, said: because(said) };
    }
    if has(&["does not support IPMI v2"]) {
        let said = "it does not speak IPMI 2.0; switch that on in its settings, or use another method";
        return PowerError::Unsupported { bmc, doing, said: because(said) };
    }
    if has(&["Address lookup for"]) {
        return PowerError::Unreachable { bmc, said: because("its name has no address") };
    }
    if has(&["Get Auth Capabilities error", "Could not open socket"]) {
        return PowerError::Unreachable { bmc, said: because("it does not answer") };
    }
    if has(&["Invalid command", "Command not supported", "Parameter out of range", "Invalid data field"]) {
        return PowerError::Unsupported { bmc, doing, said: last_line(said) };
    }
    // The first packet was answered, or the trouble above would have shown.
    if has(&[
        "Unable to establish",
        "no response",
        "No response",
        "Timeout",
        "timeout",
        "Close Session command failed",
    ]) {
        return PowerError::Slow { bmc, doing, said: because("it began to answer and fell silent") };
    }
    if has(&[" failed: ", "command failed"]) {
        return PowerError::Refused { bmc, doing, said: last_line(said) };
    }
    PowerError::Garbled { bmc, doing, said: last_line(said) }
}

fn last_line(said: &str) -> String {
    let failed = said.lines().rfind(|line| line.contains("failed"));
    let last = failed.or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
    last.map_or_else(|| "nothing".to_owned(), text::clean)
}

#[cfg(test)]
mod tests {
    use super::{PowerState, classify, state_in, without_chatter};

    #[test]
    fn a_state_is_read_beside_warnings() {
        for (said, state) in [
            ("Chassis Power is on\n", Some(PowerState::On)),
            ("Chassis Power is off\n", Some(PowerState::Off)),
            ("Discovered IPMB address 0x0\nChassis Power is off\n", Some(PowerState::Off)),
            ("Received a response with unexpected ID 7 vs. 6\nChassis Power is on", Some(PowerState::On)),
            ("Chassis Power is unknown\n", None),
            ("power is on\n", None),
            ("", None),
        ] {
            assert_eq!(state_in(said), state, "{said}");
        }
    }

    /// Left: what ipmitool 1.8.19 printed. The first eight were seen with ipmi_sim, the others are from its source.
    #[test]
    fn what_ipmitool_says_means() {
        let unable = "Error: Unable to establish IPMI v2 / RMCP+ session\n";
        for (said, code) in [
            (format!("> RAKP 2 HMAC is invalid\n{unable}"), "BmcWrongPassword"),
            (format!("RAKP 2 message indicates an error : unauthorized name\n{unable}"), "BmcWrongPassword"),
            (format!("Get Auth Capabilities error\nError issuing Get Channel Authentication Capabilities request\n{unable}"), "BmcUnreachable"),
            (format!("Address lookup for no.such.host failed\nCould not open socket!\n{unable}"), "BmcUnreachable"),
            (format!("Error in open session response message : invalid authentication algorithm\n\n{unable}"), "PowerUnsupported"),
            ("Set Chassis Power Control to Up/On failed: Insufficient privilege level\n".to_owned(), "BmcRefused"),
            (format!("This BMC does not support IPMI v2 / RMCP+\n{unable}"), "PowerUnsupported"),
            (format!("Unable to Get Channel Cipher Suites\n{unable}"), "BmcSlow"),
            (format!("RAKP 2 message indicates an error : insufficient resources for session\n{unable}"), "BmcSlow"),
            (format!("RAKP 2 message indicates an error : unauthorized role or privilege level requested\n{unable}"), "BmcRefused"),
            ("Set Chassis Boot Parameter 5 failed: Invalid command\n".to_owned(), "PowerUnsupported"),
            ("Set Chassis Power Control to Down/Off failed: Node busy\n".to_owned(), "BmcSlow"),
            ("Set Chassis Power Control to Down/Off failed: Command not supported in present state\n".to_owned(), "PowerUnsupported"),
            ("Set Chassis Power Control to Down/Off failed: Unspecified error\n".to_owned(), "BmcRefused"),
            ("Invalid completion code received: Invalid command\nSet Chassis Power Control to Down/Off failed: Unspecified error\n".to_owned(), "BmcRefused"),
            ("\u{1b}[2Jwhat\n".to_owned(), "BmcGarbled"),
            (String::new(), "BmcGarbled"),
        ] {
            let error = classify(&without_chatter(&said), "BMC 10.0.0.1 (IPMI)", "power on", "assay");
            assert_eq!(error.code(), code, "{said}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
